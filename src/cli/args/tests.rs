//! Command lines, and the invocations or messages that they become.

use super::*;

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn usage(line: &str) -> String {
    let error = parse(words(line)).expect_err(line);
    assert_eq!(exit(&error), Exit::USAGE, "{line}");
    error.to_string().lines().next().expect(line).to_owned()
}

fn flag(key: &'static str, option: &str, value: &str) -> Given {
    Given { key, value: value.into(), origin: Origin::Flag(option.to_owned()) }
}

#[test]
fn the_definition_is_consistent() {
    command().debug_assert();
}

#[test]
fn help_and_version_are_no_errors() {
    for line in
        ["taskbeat --help", "taskbeat --version", "taskbeat run -h", "taskbeat help rehearse"]
    {
        assert_eq!(exit(&parse(words(line)).expect_err(line)), Exit::OK, "{line}");
    }
}

#[test]
fn wrong_usage_is_refused() {
    for (line, message) in [
        ("taskbeat rum", "error: unrecognized subcommand 'rum'"),
        ("taskbeat run --intervall 1m", "error: unexpected argument '--intervall' found"),
        (
            "taskbeat run --interval",
            "error: a value is required for '--interval <TIME>' but none was supplied",
        ),
        ("taskbeat run sleep", "error: unexpected argument 'sleep' found"),
        ("taskbeat run --", "error: the COMMAND after -- is missing"),
        ("taskbeat run --interval 1m --", "error: the COMMAND after -- is missing"),
        ("taskbeat run --interval -5m", "error: unexpected argument '-5' found"),
        (
            "taskbeat rehearse --script ok,applause",
            "error: invalid value 'ok,applause' for '--script <SCRIPT>': `applause` is not a step; \
             allowed are ok, throttle, error, hang, reject, reset, html, terminate",
        ),
        (
            "taskbeat run -v --log info",
            "error: the argument '-v...' cannot be used with '--log <LEVEL>'",
        ),
        ("taskbeat run --online", "error: unexpected argument '--online' found"),
        (
            "taskbeat status --json --openmetrics",
            "error: the argument '--json' cannot be used with '--openmetrics'",
        ),
        (
            "taskbeat rehearse --metrics-listen 127.0.0.1:1",
            "error: unexpected argument '--metrics-listen' found",
        ),
        ("taskbeat once --grace 1s", "error: unexpected argument '--grace' found"),
        ("taskbeat rehearse --region us-east-1", "error: unexpected argument '--region' found"),
        (
            "taskbeat run --grace 1s --grace 2s",
            "error: the argument '--grace <TIME>' cannot be used multiple times",
        ),
        (
            "taskbeat rehearse --listen nowhere",
            "error: invalid value 'nowhere' for '--listen <ADDR:PORT>': \
             invalid socket address syntax",
        ),
    ] {
        assert_eq!(usage(line), message);
    }
    assert!(usage("taskbeat").starts_with("Heartbeat and supervision"));
}

#[test]
fn a_command_without_a_first_word_is_missing() {
    for rest in [&[""][..], &["", "argument"]] {
        let line = [&["taskbeat", "run", "--"], rest].concat();
        let error = parse(line.iter().map(OsString::from)).expect_err("nothing to run");
        assert_eq!(exit(&error), Exit::USAGE);
        assert!(error.to_string().contains("the COMMAND after -- is missing"));
    }
}

#[test]
fn no_tip_moves_an_option_into_the_runners_command() {
    for (line, tip) in [
        ("taskbeat run --interval -5m", None),
        ("taskbeat run -5m", None),
        ("taskbeat run --intervall 1m", Some("a similar argument exists: '--interval'")),
        ("taskbeat run --online", None),
        ("taskbeat -- run", Some("subcommand 'run' exists; to use it, remove the '--' before it")),
        ("taskbeat --grace 1s", Some("options follow the subcommand: taskbeat run --grace …")),
        ("taskbeat status --command", Some("the runner follows --: taskbeat status -- COMMAND")),
    ] {
        let error = parse(words(line)).expect_err(line).to_string();
        let found = error.lines().find_map(|line| line.trim().strip_prefix("tip: "));
        assert_eq!(found, tip, "{line}");
    }
}

#[test]
fn the_runners_command_stays_unchanged() {
    use std::os::unix::ffi::OsStringExt;
    let mut line = words("taskbeat run --grace 1s -- runner --grace -- --");
    line.push(OsString::from_vec(vec![0xFF]));
    let Ok((Subcommand::Run, options)) = parse(line.clone()) else { panic!("run") };
    assert_eq!(options.command, line[5..]);
    assert_eq!(options.flags, [flag("grace", "--grace", "1s")]);
}

#[test]
fn values_are_not_checked_here() {
    for setting in SETTINGS.iter().filter(|setting| setting.flag) {
        let option = format!("--{}", setting.key);
        let line = ["taskbeat", "check", &option, ""].map(OsString::from);
        let Ok((Subcommand::Check { .. }, options)) = parse(line) else { panic!("{option}") };
        assert_eq!(options.flags, [flag(setting.key, &option, "")]);
    }
}

#[test]
fn verbosity_is_a_level() {
    for (line, option, level) in [
        ("taskbeat once -v", "-v", "debug"),
        ("taskbeat once -vv", "-vv", "trace"),
        ("taskbeat once -v -v -v", "-vv", "trace"),
    ] {
        let options = Options { flags: vec![flag("log", option, level)], ..Options::default() };
        assert_eq!(parse(words(line)).expect(line), (Subcommand::Once, options));
    }
}

#[test]
fn a_rehearsal_has_its_own_defaults() {
    let parsed = parse(words("taskbeat rehearse"));
    let Ok((Subcommand::Rehearse { rehearsal }, options)) = parsed else { panic!("{parsed:?}") };
    assert_eq!(rehearsal.script.to_string(), "ok*3,throttle,error,terminate");
    assert_eq!((rehearsal.seed, rehearsal.listen, rehearsal.json), (None, None, false));
    let config = crate::config::load(&options, []).expect("valid");
    assert_eq!(config.settings.identity.taskrunner_id, "rehearsal");
    assert_eq!(config.settings.policy.interval.as_secs(), 1);
    assert_eq!(config.settings.policy.grace.as_secs(), 5);
    let listing = config.listing.to_string();
    assert!(listing.contains("default (rehearse)\n"), "{listing}");
}

#[test]
fn a_seed_stands_for_a_script() {
    let parsed = parse(words("taskbeat rehearse --seed 7"));
    let Ok((Subcommand::Rehearse { rehearsal }, _)) = parsed else { panic!("{parsed:?}") };
    assert_eq!((rehearsal.seed, rehearsal.script), (Some(7), Script::random(7)));
    let both = usage("taskbeat rehearse --seed 7 --script ok");
    assert_eq!(both, "error: the argument '--seed <N>' cannot be used with '--script <SCRIPT>'");
}

#[test]
fn help_fits_a_terminal() {
    let mut command = command();
    command.build();
    let mut commands: Vec<Command> = command.get_subcommands().cloned().collect();
    commands.push(command);
    for mut command in commands {
        let (brief, long) = (command.render_help(), command.render_long_help());
        assert!(brief.to_string().lines().count() <= 40, "{brief}");
        for (help, width) in [(brief, 80), (long, 100)] {
            for line in help.to_string().lines() {
                assert!(line.chars().count() <= width, "{line}");
            }
        }
    }
}
