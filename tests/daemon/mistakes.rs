//! The mistakes of the first hour: each message says what is wrong and what to do, in these words.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Endpoint, Taskbeat};

/// The usage error of this line, up to the usage.
fn usage_error(words: &[&'static str]) -> String {
    let (subcommand, flags) = words.split_first().unwrap();
    let program = flags.iter().fold(Taskbeat::new(subcommand), |program, flag| program.flag(*flag));
    let finished = program.finish();
    assert_eq!((finished.status, finished.text().as_str()), (64, ""), "{finished:?}");
    let (message, _) = finished.stderr.split_once("\n\nUsage: taskbeat").unwrap();
    message.to_owned()
}

#[test]
fn an_option_before_the_subcommand() {
    for (words, expected) in [
        (
            &["--interval", "1m", "run", "--", "sleep", "1"][..],
            "error: unexpected argument '--interval' found\n\n  \
             tip: options follow the subcommand: taskbeat run --interval …",
        ),
        (
            &["--profile=etl", "once"],
            "error: unexpected argument '--profile' found\n\n  \
             tip: options follow the subcommand: taskbeat once --profile …",
        ),
        (
            &["--json", "status"],
            "error: unexpected argument '--json' found\n\n  \
             tip: options follow the subcommand: taskbeat status --json …",
        ),
        (&["--jsonn", "status"], "error: unexpected argument '--jsonn' found"),
    ] {
        assert_eq!(usage_error(words), expected);
    }
}

#[test]
fn a_forgotten_separator_before_the_runner() {
    for (words, expected) in [
        (
            &["run", "--grace", "2m", "java", "-jar", "my runner.jar"][..],
            "error: unexpected argument 'java' found\n\n  \
             tip: the runner follows --: taskbeat run … -- java …",
        ),
        (
            &["rehearse", "sleep", "1"],
            "error: unexpected argument 'sleep' found\n\n  \
             tip: the runner follows --: taskbeat rehearse … -- sleep …",
        ),
        // It takes no runner.
        (&["once", "sleep"], "error: unexpected argument 'sleep' found"),
    ] {
        assert_eq!(usage_error(words), expected);
    }
}

#[test]
fn an_option_command() {
    assert_eq!(
        usage_error(&["run", "--command", "sleep 1"]),
        "error: unexpected argument '--command' found\n\n  \
         tip: the runner follows --: taskbeat run -- COMMAND"
    );
}

#[test]
fn numbers_without_a_unit() {
    let finished = Taskbeat::new("run")
        .set("--interval", "15")
        .set("--jitter", "5")
        .set("--grace", "120")
        .finish();
    assert_eq!(finished.status, 78, "{finished:?}");
    assert_eq!(
        finished.stderr,
        "interval = \"15\" (flag --interval): must be 10ms to 15m, such as 15m, 90s or 250ms; \
         did you mean 15s or 15m?\n\
         jitter = \"5\" (flag --jitter): must be 0% to 50%, such as 10% or 2.5%; \
         did you mean 5%?\n\
         grace = \"120\" (flag --grace): must be 0s to 24h, such as 2m, 30s or 500ms; \
         did you mean 120s or 120m?\n"
    );
}

#[test]
fn a_shell_line_without_a_shell() {
    let endpoint = Endpoint::ok();
    // A folder that this user may not search would make it EACCES.
    let program = Taskbeat::run(&endpoint).env("PATH", "/usr/bin:/bin");
    let finished = program.command(&["sleep 1; echo 'done'"]).finish();
    assert_eq!(finished.status, 127, "{finished:?}");
    let expected = " cannot run \"sleep 1; echo 'done'\": No such file or directory (os error 2); \
                    a shell line needs a shell: sh -c 'sleep 1; echo '\\''done'\\'''";
    let mut lines = finished.stderr.lines();
    assert!(lines.any(|line| line.ends_with(expected)), "{finished:?}");
}

#[test]
fn a_profile_that_is_in_no_file() {
    for (text, defined) in [("[default]\n[profile etl]\n", "default, etl"), ("", "none")] {
        let program = Taskbeat::new("once").set("--profile", "elt").env("TASKBEAT_INTERVAL", "1m");
        let home = program.home().to_owned();
        fs::create_dir(home.join(".aws")).unwrap();
        fs::write(home.join(".aws/config"), text).unwrap();
        let finished = program.finish();
        let folder = home.join(".aws");
        assert_eq!(finished.status, 69, "{finished:?}");
        assert_eq!(
            finished.stderr,
            format!(
                "taskbeat: profile elt is not defined in {0}/config or {0}/credentials, \
                 which define {defined}\n",
                folder.display()
            )
        );
    }
}

#[test]
fn the_status_of_a_daemon_that_does_not_run() {
    let status = || Taskbeat::new("status").set("--taskrunner-id", "etl-none");
    let message = "no taskbeat is running on this host for taskrunner-id \"etl-none\"";
    let text = status().finish();
    assert_eq!((text.status, text.text()), (69, String::new()), "{text:?}");
    assert_eq!(text.stderr, format!("taskbeat: {message}\n"));
    let finished = status().flag("--json").finish();
    assert_eq!(finished.status, 69, "{finished:?}");
    let reply: Value = serde_json::from_str(&finished.text()).unwrap();
    assert_eq!(reply, json!({"running": false, "in_contact": false, "error": message}));
    assert_eq!(finished.stderr, text.stderr);
}
