//! The configuration as a whole: values in, settings or messages out.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal};
use serde_json::json;
use tempfile::TempDir;
use tracing::level_filters::LevelFilter;

use super::input::Input;
use super::*;
use crate::core::{AfterTerminate, CommandName, Policy};

const SAMPLE: &str = include_str!("../../config/taskbeat.toml");

fn flags<const N: usize>(given: [(&'static str, &str); N]) -> Options {
    Options { flags: given.map(|(key, value)| flag(key, value)).into(), ..Options::default() }
}

fn flag(key: &'static str, value: impl Into<OsString>) -> Given {
    Given { key, value: value.into(), origin: Origin::Flag(format!("--{key}")) }
}

fn preset(key: &'static str, value: &str) -> Given {
    Given { key, value: value.into(), origin: Origin::Default(Some("rehearse")) }
}

fn environment<const N: usize>(variables: [(&str, &str); N]) -> [(OsString, OsString); N] {
    variables.map(|(name, value)| (name.into(), value.into()))
}

/// A configuration file in its own directory, which is removed with the first value.
fn file(text: &[u8]) -> (TempDir, PathBuf, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t.toml");
    fs::write(&path, text).unwrap();
    let text = path.to_str().unwrap().to_owned();
    (directory, path, text)
}

/// The errors of a file of this text, with its path shortened to `t.toml`. The required id is set.
fn errors_of_file(text: &[u8]) -> String {
    let (_directory, _, path) = file(text);
    let options = flags([("config", &path), ("hostname", "h")]);
    load(&options, environment([("TASKBEAT_TASKRUNNER_ID", "t")]))
        .unwrap_err()
        .join("\n")
        .replace(&path, "t.toml")
}

fn settings<const N: usize>(given: [(&'static str, &str); N]) -> Settings {
    load(&flags(given), environment([("TASKBEAT_TASKRUNNER_ID", "t")])).unwrap().settings
}

#[test]
fn a_bad_value_is_refused_with_its_origin_and_what_is_allowed() {
    let name = "must be 1 to 1024 characters, no control characters, no spaces around them";
    let group =
        "must be at most 1024 characters, no `*`, no control characters, no spaces around it";
    let region =
        "must be a region's name in lowercase letters, digits and dashes, such as us-east-1";
    let profile = "must be the name of an AWS profile, no control characters, no spaces around it";
    let url = "must be an http or https URL with a host, without user, password, query or fragment";
    let interval = "must be 10ms to 15m, such as 15m, 90s or 250ms";
    let jitter = "must be 0% to 50%, such as 10% or 2.5%";
    let grace = "must be 0s to 24h, such as 2m, 30s or 500ms";
    let lost_contact = "must be longer than two intervals and at most 30d, such as 45m";
    let health = "must be 1ms to half the interval, such as 30s";
    let signal = "must be TERM, INT, HUP, QUIT, USR1, USR2 or KILL, with or without SIG before it";
    let scope = "must be group or process";
    let format = "must be auto, text or json";
    let address = "must be an IP address and a port, such as 127.0.0.1:9464 or [::1]:9464";
    let level = "must be off, error, warn, info, debug or trace";
    let long = "x".repeat(1025);
    let cut = format!(r#""{}"… (1025 characters)"#, "x".repeat(80));
    for (key, value, quoted, allowed) in [
        ("taskrunner-id", "", r#""""#, name),
        ("taskrunner-id", " t", r#"" t""#, name),
        ("taskrunner-id", "t\n", r#""t\n""#, name),
        ("taskrunner-id", "t\u{7}t", r#""t\u{7}t""#, name),
        ("taskrunner-id", "t\u{FFFE}", r#""t\u{fffe}""#, name),
        ("taskrunner-id", &long, &cut, name),
        ("hostname", "", r#""""#, name),
        ("hostname", "host\t", r#""host\t""#, name),
        ("hostname", &long, &cut, name),
        ("worker-group", "etl-*", r#""etl-*""#, group),
        ("worker-group", "etl ", r#""etl ""#, group),
        ("worker-group", "e\rl", r#""e\rl""#, group),
        ("worker-group", &long, &cut, group),
        ("region", "", r#""""#, region),
        ("region", "US-EAST-1", r#""US-EAST-1""#, region),
        ("region", "us_east_1", r#""us_east_1""#, region),
        ("region", "us-east-1 ", r#""us-east-1 ""#, region),
        ("region", "-us-east-1", r#""-us-east-1""#, region),
        ("region", "us-east-1.evil.example", r#""us-east-1.evil.example""#, region),
        ("profile", "", r#""""#, profile),
        ("profile", " default", r#"" default""#, profile),
        ("endpoint-url", "", r#""""#, url),
        ("endpoint-url", "localhost:8080", r#""localhost:8080""#, url),
        ("endpoint-url", "ftp://example.com", r#""ftp://example.com""#, url),
        ("endpoint-url", "http://", r#""http://""#, url),
        ("endpoint-url", "http://:80", r#""http://:80""#, url),
        ("endpoint-url", "http://example.com:", r#""http://example.com:""#, url),
        ("endpoint-url", "http://example.com:0", r#""http://example.com:0""#, url),
        ("endpoint-url", "http://example.com:99999", r#""http://example.com:99999""#, url),
        ("endpoint-url", "/path", r#""/path""#, url),
        ("endpoint-url", " http://example.com", r#"" http://example.com""#, url),
        ("endpoint-url", "https://me:secret@example.com/", r#""https://***@example.com/""#, url),
        ("endpoint-url", "https://example.com?secret", r#""https://example.com?***""#, url),
        ("endpoint-url", "https://example.com/#secret", r#""https://example.com/#***""#, url),
        ("interval", "", r#""""#, interval),
        ("interval", "0s", r#""0s""#, interval),
        ("interval", "9ms", r#""9ms""#, interval),
        ("interval", "901s", r#""901s""#, interval),
        ("interval", "15M", r#""15M""#, interval),
        (
            "interval",
            "15",
            r#""15""#,
            "must be 10ms to 15m, such as 15m, 90s or 250ms; did you mean 15s or 15m?",
        ),
        ("interval", "-1m", r#""-1m""#, interval),
        ("interval", "99999999999999999999s", r#""99999999999999999999s""#, interval),
        ("jitter", "10", r#""10""#, "must be 0% to 50%, such as 10% or 2.5%; did you mean 10%?"),
        ("jitter", "0.1", r#""0.1""#, jitter),
        ("jitter", "51%", r#""51%""#, jitter),
        ("jitter", "-1%", r#""-1%""#, jitter),
        ("jitter", "nan%", r#""nan%""#, jitter),
        ("jitter", "1e1%", r#""1e1%""#, jitter),
        ("jitter", "%", r#""%""#, jitter),
        ("grace", "25h", r#""25h""#, grace),
        ("grace", "soon", r#""soon""#, grace),
        ("lost-contact-after", "30m", r#""30m""#, lost_contact),
        ("lost-contact-after", "31d", r#""31d""#, lost_contact),
        ("health-timeout", "0s", r#""0s""#, health),
        ("health-timeout", "451s", r#""451s""#, health),
        ("stop-signal", "SIGSTOP", r#""SIGSTOP""#, signal),
        ("stop-signal", "sigterm", r#""sigterm""#, signal),
        ("stop-signal", "SIGSIGTERM", r#""SIGSIGTERM""#, signal),
        ("stop-signal", "15", r#""15""#, signal),
        ("stop-scope", "cgroup", r#""cgroup""#, scope),
        ("command", "", r#""""#, "must be a command for /bin/sh -c"),
        ("command", " ", r#"" ""#, "must be a command for /bin/sh -c"),
        ("command", "a\0b", r#""a\0b""#, "must be a command for /bin/sh -c"),
        ("log-format", "xml", r#""xml""#, format),
        ("log", "warning", r#""warning""#, level),
        ("log", "INFO", r#""INFO""#, level),
        ("metrics-listen", "9464", r#""9464""#, address),
        ("metrics-listen", "localhost:9464", r#""localhost:9464""#, address),
        ("metrics-listen", "127.0.0.1", r#""127.0.0.1""#, address),
    ] {
        let variables = environment([("TASKBEAT_TASKRUNNER_ID", "t")]);
        let error = load(&flags([(key, value)]), variables).unwrap_err();
        assert_eq!(error, [format!("{key} = {quoted} (flag --{key}): {allowed}")]);
    }
}

#[test]
fn good_values_become_settings() {
    let name = "é😀".repeat(512);
    let all = settings([
        ("worker-group", "My group/1"),
        ("hostname", &name),
        ("region", "us-gov-west-1"),
        ("profile", "my profile"),
        ("endpoint-url", "HTTPS://[::1]:8443/base"),
        ("interval", "1m 30s"),
        ("jitter", "2.5%"),
        ("grace", "0s"),
        ("stop-signal", "USR1"),
        ("stop-scope", "process"),
        ("command", "exec \"$RUNNER\"\n"),
        ("log-format", "json"),
        ("log", "off"),
        ("metrics-listen", "[::1]:9464"),
    ]);
    let expected = Settings {
        identity: Identity {
            taskrunner_id: "t".into(),
            worker_group: Some("My group/1".into()),
            hostname: name,
        },
        aws: AwsSettings {
            region: Some("us-gov-west-1".into()),
            profile: Some("my profile".into()),
            profile_is_pinned: true,
            endpoint_url: Some("HTTPS://[::1]:8443/base".into()),
            endpoint_variants: Vec::new(),
        },
        policy: Policy {
            interval: Duration::from_secs(90),
            jitter: 0.025,
            grace: Duration::ZERO,
            lost_contact_after: None,
            on_terminate: false,
            health_check: None,
            on_contact_change: false,
            after_terminate: AfterTerminate::Exit,
        },
        runner: RunnerSettings {
            target: Target::Command(
                ["/bin/sh", "-c", "exec \"$RUNNER\"\n"].map(OsString::from).into(),
            ),
            stop_signal: Signal::USR1,
            stop_scope: StopScope::Leader,
        },
        commands: CommandSettings::default(),
        log: LogSettings { format: LogFormat::Json, level: LevelFilter::OFF },
        metrics_listen: Some((Ipv6Addr::LOCALHOST, 9464).into()),
    };
    assert_eq!(all, expected);
    assert_eq!(settings([("worker-group", "")]).identity.worker_group.as_deref(), Some(""));
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let defaults = settings([("hostname", "h")]);
    let expected = Settings {
        identity: Identity { taskrunner_id: "t".into(), worker_group: None, hostname: "h".into() },
        aws: AwsSettings {
            region: None,
            profile: None,
            profile_is_pinned: false,
            endpoint_url: None,
            endpoint_variants: Vec::new(),
        },
        policy: Policy {
            interval: Duration::from_mins(15),
            jitter: 0.1,
            grace: Duration::from_secs(30),
            lost_contact_after: None,
            on_terminate: false,
            health_check: None,
            on_contact_change: false,
            after_terminate: AfterTerminate::Exit,
        },
        runner: RunnerSettings {
            target: Target::None,
            stop_signal: Signal::TERM,
            stop_scope: StopScope::Group,
        },
        commands: CommandSettings::default(),
        log: LogSettings { format: LogFormat::Auto, level: LevelFilter::INFO },
        metrics_listen: None,
    };
    assert_eq!(defaults, expected);
    let system = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    assert_eq!(settings([]).identity.hostname, system);
}

#[test]
fn a_health_check_has_thirty_seconds_or_half_a_shorter_interval() {
    for (interval, seconds) in [("15m", 30), ("1m", 30), ("20s", 10)] {
        let policy = settings([("interval", interval), ("health-check", "true")]).policy;
        assert_eq!(policy.health_check, Some(Duration::from_secs(seconds)), "{interval}");
    }
    assert_eq!(settings([("health-timeout", "1s")]).policy.health_check, None);
}

#[test]
fn each_command_beside_the_runner_has_its_own_setting() {
    let commands = settings([
        ("on-terminate", "drain"),
        ("health-check", "probe"),
        ("on-contact-change", "notify"),
    ])
    .commands;
    for (name, text) in [
        (CommandName::OnTerminate, "drain"),
        (CommandName::HealthCheck, "probe"),
        (CommandName::OnContactChange, "notify"),
    ] {
        let words = ["/bin/sh", "-c", text].map(OsString::from);
        assert_eq!(commands.get(name), Some(&words[..]), "{name}");
    }
    assert_eq!(settings([]).commands.get(CommandName::HealthCheck), None);
}

#[test]
fn a_runner_that_is_not_a_child_is_named_by_its_id_or_a_file() {
    let target = |key, value| settings([(key, value)]).runner.target;
    assert_eq!(target("pid", "4711"), Target::Pid(Pid::from_raw(4711).unwrap()));
    assert_eq!(target("pid-file", "/run/etl.pid"), Target::PidFile("/run/etl.pid".into()));
    for (key, value, allowed) in [
        ("pid", "0", "the id of a running process"),
        ("pid", "+1", "the id of a running process"),
        ("pid", "2147483648", "the id of a running process"),
        ("pid-file", "", "a path"),
    ] {
        let variables = environment([("TASKBEAT_TASKRUNNER_ID", "t")]);
        let error = load(&flags([(key, value)]), variables).unwrap_err();
        assert_eq!(error, [format!("{key} = {value:?} (flag --{key}): must be {allowed}")]);
    }
}

#[test]
fn contact_may_be_lost_for_a_month_before_the_runner_is_stopped() {
    let after = settings([("lost-contact-after", "30d")]).policy.lost_contact_after;
    assert_eq!(after, Some(Duration::from_hours(30 * 24)));
}

#[test]
fn the_id_must_be_set() {
    assert_eq!(
        load(&Options::default(), []).unwrap_err().join("\n"),
        "taskrunner-id is not set: \
         must be 1 to 1024 characters, no control characters, no spaces around them; \
         set --taskrunner-id, TASKBEAT_TASKRUNNER_ID or taskrunner-id in the configuration file"
    );
}

#[test]
fn all_errors_are_reported_at_once() {
    let (_directory, _, path) = file(b"worker-group = 'a*'\nintervall = '1m'");
    let options = flags([("grace", "soon"), ("config", &path)]);
    let variables = environment([
        ("TASKBEAT_JITTER", "x"),
        ("TASKBEAT_GRASE", "1s"),
        ("AWS_SESSION_TOKEN", "a\n"),
    ]);
    let errors = load(&options, variables).unwrap_err();
    let keys: Vec<String> = errors
        .join("\n")
        .replace(&path, "t.toml")
        .lines()
        .map(|line| line.split(": ").next().unwrap().to_owned())
        .collect();
    assert_eq!(
        keys,
        [
            "TASKBEAT_GRASE (environment)",
            "AWS_SESSION_TOKEN = *** (environment AWS_SESSION_TOKEN)",
            "intervall (file t.toml:2)",
            "taskrunner-id is not set",
            r#"worker-group = "a*" (file t.toml:1)"#,
            r#"jitter = "x" (environment TASKBEAT_JITTER)"#,
            r#"grace = "soon" (flag --grace)"#,
        ]
    );
}

#[test]
fn the_host_fills_in_its_placeholders_in_the_identity_only() {
    let host = settings([]).identity.hostname;
    let filled = settings([
        ("taskrunner-id", "etl-{hostname}-{instance-id}"),
        ("worker-group", "{local-hostname}"),
        ("hostname", "{hostname}.example.com"),
        ("command", "echo {hostname}"),
    ]);
    let identity = Identity {
        taskrunner_id: format!("etl-{host}-{{instance-id}}"),
        worker_group: Some("{local-hostname}".into()),
        hostname: format!("{host}.example.com"),
    };
    assert_eq!(filled.identity, identity);
    let command = ["/bin/sh", "-c", "echo {hostname}"].map(OsString::from);
    assert_eq!(filled.runner.target, Target::Command(command.into()));
}

#[test]
fn an_unknown_placeholder_is_refused() {
    let options = flags([("taskrunner-id", "etl-{host}")]);
    assert_eq!(
        load(&options, []).unwrap_err().join("\n"),
        "taskrunner-id = \"etl-{host}\" (flag --taskrunner-id): \"{host}\" is no placeholder; \
         use one of {hostname}, {machine-id}, {instance-id}, {public-hostname}, {local-hostname}, \
         or {{ and }} as braces"
    );
}

#[test]
fn a_bad_file_is_refused() {
    let keys = "must be one of taskrunner-id, worker-group, hostname, region, profile, \
                endpoint-url, interval, jitter, lost-contact-after, grace, stop-signal, \
                stop-scope, command, pid, pid-file, after-terminate, on-terminate, \
                health-check, health-timeout, on-contact-change, \
                log-format, log, metrics-listen";
    let interval = "must be 10ms to 15m, such as 15m, 90s or 250ms";
    for (text, message) in [
        (
            "intervall = '1m'",
            "intervall (file t.toml:1): unknown, did you mean interval?".to_owned(),
        ),
        (
            "\n\nworker_group = 'a'",
            "worker_group (file t.toml:3): unknown, did you mean worker-group?".to_owned(),
        ),
        ("colour = 'red'", format!("colour (file t.toml:1): unknown, {keys}")),
        ("config = 'x'", format!("config (file t.toml:1): unknown, {keys}")),
        ("[timing]\ninterval = '1m'", format!("timing (file t.toml:1): unknown, {keys}")),
        ("\"a\\nb\" = 1", format!("a\\nb (file t.toml:1): unknown, {keys}")),
        ("interval = ['1m']", format!("interval = an array (file t.toml:1): {interval}")),
        ("interval.max = '1m'", format!("interval = a table (file t.toml:1): {interval}")),
        ("interval = 1979-05-27", format!("interval = a date (file t.toml:1): {interval}")),
        (
            "interval = 15",
            format!(r#"interval = "15" (file t.toml:1): {interval}; did you mean 15s or 15m?"#),
        ),
        ("interval = true", format!(r#"interval = "true" (file t.toml:1): {interval}"#)),
        (
            "jitter = 0.1",
            r#"jitter = "0.1" (file t.toml:1): must be 0% to 50%, such as 10% or 2.5%"#.to_owned(),
        ),
        ("grace = '1s'\ngrace = '2s'", "file t.toml:2: not TOML: duplicate key".to_owned()),
        (
            "interval = 15m\ngrace = '1s'\njitter = [1, =]\n",
            "file t.toml:1: not TOML: string values must be quoted, expected literal string\n\
             file t.toml:3: not TOML: unexpected `=` in array, expected value, `]`"
                .to_owned(),
        ),
    ] {
        assert_eq!(errors_of_file(text.as_bytes()), message);
    }
}

#[test]
fn numbers_in_the_file_count_as_text() {
    let (_directory, _, path) =
        file(b"taskrunner-id = 4711\nhostname = true\nworker-group = 1.5\ngrace = 0");
    let settings = load(&flags([("config", &path)]), []).unwrap().settings;
    assert_eq!(settings.identity.taskrunner_id, "4711");
    assert_eq!(settings.identity.hostname, "true");
    assert_eq!(settings.identity.worker_group.as_deref(), Some("1.5"));
    assert_eq!(settings.policy.grace, Duration::ZERO);
}

#[test]
fn a_syntax_error_names_the_line_and_not_its_text() {
    let message = errors_of_file(b"grace = '1s'\nendpoint-url = https://me:secret@example.com\n");
    assert!(message.starts_with("file t.toml:2: not TOML: "), "{message}");
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn an_unusable_file_is_refused() {
    let (directory, path, _) = file(b"hostname = '\xFF'");
    let missing = directory.path().join("missing");
    let fifo = directory.path().join("fifo");
    mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    for (path, reason) in [
        (missing.as_path(), "No such file or directory (os error 2)"),
        (directory.path(), "Is a directory (os error 21)"),
        (path.as_path(), "stream did not contain valid UTF-8"),
        (fifo.as_path(), "it is a FIFO"),
        (OsStr::new("/dev/zero").as_ref(), "it is a device"),
        (OsStr::new("").as_ref(), "No such file or directory (os error 2)"),
    ] {
        let path = path.to_str().unwrap();
        let error = load(&flags([("config", path)]), []).unwrap_err();
        let problem = format!("must be the path of a readable TOML file: {reason}");
        assert_eq!(error, [format!("config = {path:?} (flag --config): {problem}")]);
    }
}

#[test]
fn an_inherited_pipe_is_read_like_a_file() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let path = format!("/dev/fd/{}", reader.as_raw_fd());
    let writing = thread::spawn(move || writer.write_all(b"taskrunner-id = 'piped'"));
    let settings = load(&flags([("config", &path)]), []).unwrap().settings;
    assert_eq!(settings.identity.taskrunner_id, "piped");
    writing.join().unwrap().unwrap();
}

#[test]
fn a_value_that_is_not_utf8_is_refused() {
    let bytes = |text: &[u8]| OsString::from_vec(text.to_vec());
    let options =
        Options { flags: vec![flag("taskrunner-id", bytes(b"caf\xE9"))], ..Options::default() };
    let variables = [
        ("TASKBEAT_ENDPOINT_URL".into(), bytes(b"http://me:secret\xFF@example.com")),
        (bytes(b"TASKBEAT_\xFF"), "x".into()),
        // No variable of taskbeat.
        (bytes(b"\xFF"), bytes(b"\xFF")),
    ];
    let message = load(&options, variables).unwrap_err().join("\n");
    let lines: Vec<&str> = message.lines().collect();
    assert!(
        lines[0].starts_with(
            "TASKBEAT_\u{FFFD} (environment): unknown, must be one of TASKBEAT_CONFIG, "
        )
    );
    assert_eq!(
        lines[1..],
        [
            "taskrunner-id = \"caf\u{FFFD}\" (not UTF-8) (flag --taskrunner-id): \
             must be 1 to 1024 characters, no control characters, no spaces around them",
            "endpoint-url = \"http://***@example.com\" (not UTF-8) \
             (environment TASKBEAT_ENDPOINT_URL): \
             must be an http or https URL with a host, without user, password, query or fragment",
        ]
    );
    let options = Options { flags: vec![flag("config", bytes(b"\xFF"))], ..options };
    assert_eq!(
        load(&options, []).unwrap_err().join("\n"),
        "config = \"\u{FFFD}\" (not UTF-8) (flag --config): \
         must be the path of a readable TOML file"
    );
}

#[test]
fn unknown_variables_are_refused() {
    for (name, hint) in [
        ("TASKBEAT_INTERVALL", "did you mean TASKBEAT_INTERVAL?"),
        ("TASKBEAT_TASK_RUNNER_ID", "did you mean TASKBEAT_TASKRUNNER_ID?"),
        ("TASKBEAT_LOGLEVEL", "did you mean TASKBEAT_LOG?"),
        ("TASKBEAT_ENDPOINT", "did you mean TASKBEAT_ENDPOINT_URL?"),
    ] {
        let error =
            load(&flags([("taskrunner-id", "t")]), environment([(name, "secret")])).unwrap_err();
        assert_eq!(error, [format!("{name} (environment): unknown, {hint}")]);
    }
    load(&flags([("taskrunner-id", "t")]), environment([("TASKBEATS", "x"), ("taskbeat_x", "x")]))
        .unwrap();
}

#[test]
fn the_variables_of_a_kubernetes_service_are_ignored() {
    let is_known = |variables: &[&str]| {
        let variables = variables.iter().map(|name| (name.into(), "x".into()));
        load(&flags([("taskrunner-id", "t")]), variables).is_ok()
    };
    for name in [
        "TASKBEAT_PORT",
        "TASKBEAT_SERVICE_HOST",
        "TASKBEAT_SERVICE_PORT",
        "TASKBEAT_SERVICE_PORT_HTTP",
        "TASKBEAT_SERVICE_PORT_HTTP_ALT",
        "TASKBEAT_PORT_80_TCP",
        "TASKBEAT_PORT_80_TCP_ADDR",
        "TASKBEAT_PORT_80_UDP_PORT",
        "TASKBEAT_PORT_65535_SCTP_PROTO",
    ] {
        assert!(is_known(&[name]), "{name}");
        let other = name.replace("TASKBEAT", "TASKBEAT_METRICS");
        let announced = [&other, "TASKBEAT_METRICS_SERVICE_HOST"];
        assert!(is_known(&announced), "{other}");
    }
    for name in [
        "TASKBEAT_PORTS",
        "TASKBEAT_SERVICE",
        "TASKBEAT_SERVICE_HOSTS",
        "TASKBEAT_PORT_HTTP",
        "TASKBEAT_PORT_80",
        "TASKBEAT_PORT_80_TCP_HOST",
        "TASKBEAT_PORT_65536_TCP",
        "TASKBEAT_METRICS_PORT",
        "TASKBEAT_SERVICE_HOST_PORT",
    ] {
        assert!(!is_known(&[name]), "{name}");
    }
}

#[test]
fn doubled_braces_of_the_identity_are_literal() {
    let filled = settings([("taskrunner-id", "job{{1}}"), ("hostname", "{{hostname}}")]).identity;
    assert_eq!([&*filled.taskrunner_id, &*filled.hostname], ["job{{1}}", "{{hostname}}"]);
    // The limit counts a doubled brace once, as it is sent.
    let id = "{{".repeat(1024);
    settings([("taskrunner-id", &id)]);
    let error = load(&flags([("taskrunner-id", &(id + "}}"))]), []).unwrap_err();
    assert!(error[0].contains("1 to 1024 characters"));
}

/// The errors of this variable alone.
fn errors_of_variable(name: &str, value: &str) -> String {
    let result = load(&flags([("taskrunner-id", "t")]), environment([(name, value)]));
    result.map_or_else(|errors| errors.join("\n"), |_| String::new())
}

#[test]
fn variables_that_the_sdk_takes_are_accepted() {
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "wJalr/K7+b="),
        ("AWS_SESSION_TOKEN", " "),
    ] {
        assert_eq!(errors_of_variable(name, value), "", "{value:?}");
    }
}

#[test]
fn an_unusable_proxy_is_refused_without_its_password() {
    let allowed =
        "must be an http or https URL with a host; in its user and password, @ is %40, / is %2F";
    for (value, quoted) in [
        ("ftp://proxy:3128", "ftp://proxy:3128"),
        ("socks5://proxy:1080", "socks5://proxy:1080"),
        ("http://", "http://"),
        ("http://proxy:port", "http://proxy:port"),
        ("http://proxy:0", "http://proxy:0"),
        ("http://pro xy", "http://pro xy"),
        ("http://$PROXY", "http://$PROXY"),
        ("\"http://proxy\"", "\\\"http://proxy\\\""),
        ("'http://proxy'", "'http://proxy'"),
        (" http://proxy", " http://proxy"),
        ("http://proxy\n", "http://proxy\\n"),
        ("/proxy", "/proxy"),
        ("http://user:p@ss@proxy", "http://***@proxy"),
        ("http://user:p/ss@proxy", "http://***@proxy"),
        ("user:p@ss@proxy:3128", "***@proxy:3128"),
        ("http://user:p#ss@proxy", "http://***"),
        ("http://user:p?ss@proxy", "http://***"),
        ("http://user:p\"ss@proxy", "http://***@proxy"),
        ("http://user:p[ss@proxy", "http://***@proxy"),
    ] {
        for name in ["HTTPS_PROXY", "http_proxy", "ALL_PROXY"] {
            assert_eq!(
                errors_of_variable(name, value),
                format!("{name} = \"{quoted}\" (environment {name}): {allowed}")
            );
        }
    }
}

#[test]
fn a_usable_or_unused_proxy_is_accepted() {
    for value in [
        "",
        "http://proxy",
        "HTTPS://proxy:3128/",
        "proxy",
        "proxy:3128",
        "http://[::1]:3128",
        "http://user:p%40ss%2f@proxy:3128",
        "http://user:pass:word@proxy",
        "user@proxy:3128",
    ] {
        assert_eq!(errors_of_variable("all_proxy", value), "", "{value}");
        assert_eq!(errors_of_variable("HTTPS_PROXY", value), "", "{value}");
    }
    let (good, bad) = ("http://proxy", "socks5://proxy");
    for variables in [
        // The SDK takes the first of each pair, even if it is empty.
        [("HTTPS_PROXY", good), ("https_proxy", bad), ("NO", "")],
        [("HTTPS_PROXY", ""), ("https_proxy", bad), ("NO", "")],
        [("http_proxy", good), ("HTTPS_PROXY", good), ("ALL_PROXY", bad)],
    ] {
        let options = flags([("taskrunner-id", "t")]);
        load(&options, environment(variables)).unwrap();
    }
    let partly = [("http_proxy", good), ("all_proxy", bad)];
    let error = load(&flags([("taskrunner-id", "t")]), environment(partly)).unwrap_err();
    assert!(error[0].starts_with("all_proxy = "));
}

#[test]
fn the_variables_of_the_aws_sdk_take_the_place_of_missing_values() {
    let url = "http://127.0.0.1:1";
    let options = flags([("taskrunner-id", "t")]);
    let aws = |variables: &[(&str, &str)]| {
        let variables =
            variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        load(&options, variables).unwrap().settings.aws
    };
    let found = aws(&[
        ("AWS_REGION", "eu-west-1"),
        ("AWS_DEFAULT_REGION", "x"),
        ("AWS_PROFILE", "p"),
        ("AWS_ENDPOINT_URL", url),
    ]);
    assert_eq!(
        found,
        AwsSettings {
            region: Some("eu-west-1".into()),
            profile: Some("p".into()),
            profile_is_pinned: false,
            endpoint_url: Some(url.into()),
            endpoint_variants: Vec::new(),
        }
    );
    let both =
        [("AWS_ENDPOINT_URL_DATA_PIPELINE", url), ("AWS_ENDPOINT_URL", "https://example.com")];
    assert_eq!(aws(&both).endpoint_url.as_deref(), Some(url));
    let ignored = [both[0], both[1], ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "TRUE")];
    assert_eq!(aws(&ignored).endpoint_url, None);
    let own = [both[0], ("TASKBEAT_ENDPOINT_URL", "https://example.com")];
    assert_eq!(aws(&own).endpoint_url.as_deref(), Some("https://example.com"));

    for (name, value, message) in [
        (
            "AWS_ENDPOINT_URL_DATA_PIPELINE",
            "nowhere",
            "endpoint-url = \"nowhere\" (environment AWS_ENDPOINT_URL_DATA_PIPELINE): \
             must be an http or https URL with a host, without user, password, query or fragment",
        ),
        (
            "AWS_SESSION_TOKEN",
            "a\n",
            "AWS_SESSION_TOKEN = *** (environment AWS_SESSION_TOKEN): \
             must be plain ASCII, with no spaces or line breaks in or around it",
        ),
    ] {
        assert_eq!(load(&options, environment([(name, value)])).unwrap_err().join("\n"), message);
    }
}

#[test]
fn flag_wins_over_environment_over_file_over_preset_over_default() {
    for setting in SETTINGS {
        let (_directory, _, path) = file(format!("{} = 'file'", setting.key).as_bytes());
        let mut options = Options::default();
        if setting.file {
            options.flags.push(flag("config", &path));
        }
        options.presets.push(preset(setting.key, "preset"));
        let mut variables = environment([(&setting.variable(), "environment")]).to_vec();
        let input = |options: &Options, variables: &[(OsString, OsString)]| {
            let environment = variables.iter().cloned().collect();
            let mut inputs = super::sources::gather(options, &environment, &mut vec![]).unwrap();
            inputs.remove(setting.key)
        };
        let expect =
            |value: &str, origin| Some(Input { setting, value: Ok(value.to_owned()), origin });
        let from_flag = Origin::Flag(format!("--{}", setting.key));
        if !setting.file {
            // The file is read at once, so only the order of the sources can be tested.
            variables[0].1 = path.clone().into();
            fs::write(&path, "").unwrap();
            let from_variable = Origin::Environment(setting.variable());
            assert_eq!(input(&options, &variables), expect(&path, from_variable));
            options.flags.push(flag(setting.key, "/dev/null"));
            assert_eq!(input(&options, &variables), expect("/dev/null", from_flag));
            continue;
        }
        if setting.flag {
            let mut options = options.clone();
            options.flags.push(flag(setting.key, "flag"));
            assert_eq!(input(&options, &variables), expect("flag", from_flag));
        } else {
            let options =
                Options { command: ["run", "it"].map(OsString::from).into(), ..options.clone() };
            assert_eq!(input(&options, &variables), expect("run it", Origin::Operand));
        }
        let from_variable = Origin::Environment(setting.variable());
        assert_eq!(input(&options, &variables), expect("environment", from_variable));
        assert_eq!(input(&options, &[]), expect("file", Origin::File { path, line: 1 }));
        options.flags.clear();
        let from_preset = Origin::Default(Some("rehearse"));
        assert_eq!(input(&options, &[]), expect("preset", from_preset));
        options.presets.clear();
        let default = setting.default.and_then(|default| {
            let filled = super::placeholders::fill(default).unwrap();
            expect(&filled, Origin::Default(None))
        });
        assert_eq!(input(&options, &[]), default);
    }
}

#[test]
fn every_value_that_shells_offer_is_allowed() {
    let with_choices = |setting: &&Setting| !setting.choices.is_empty();
    assert_eq!(SETTINGS.iter().filter(with_choices).count(), 5);
    for setting in SETTINGS.iter().filter(with_choices) {
        for choice in setting.choices {
            settings([(setting.key, choice)]);
        }
    }
}

#[test]
fn every_row_is_read() {
    for setting in SETTINGS {
        // No setting allows this value.
        let variables = environment([(&setting.variable(), "\0")]);
        let message = load(&Options::default(), variables).unwrap_err().join("\n");
        assert!(message.contains(&format!("{} = \"\\0\" (environment ", setting.key)), "{message}");
    }
}

#[test]
fn the_operand_reaches_the_runner_unchanged() {
    let command = vec![OsString::from("run it"), OsString::from_vec(vec![0xFF])];
    let options = Options { command: command.clone(), ..flags([("taskrunner-id", "t")]) };
    let config = load(&options, environment([("TASKBEAT_COMMAND", "")])).unwrap();
    assert_eq!(config.settings.runner.target, Target::Command(command));
}

#[test]
fn the_sample_documents_every_key_at_its_default() {
    let uncommented: String = SAMPLE
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
        .collect::<Vec<_>>()
        .join("\n");
    let entries = super::file::parse(&uncommented, "").unwrap();
    let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
    let rows: Vec<&Setting> = SETTINGS.iter().filter(|setting| setting.file).collect();
    assert_eq!(keys, rows.iter().map(|setting| setting.key).collect::<Vec<_>>());
    for (entry, setting) in entries.iter().zip(&rows) {
        if let Some(default) = setting.default {
            assert_eq!(entry.value.as_deref(), Ok(default), "{}", setting.key);
        }
    }
    // Only one of command, pid and pid-file may be set.
    let one_runner: Vec<&str> =
        uncommented.lines().filter(|line| !line.starts_with("pid")).collect();
    let (_directory, _, path) = file(one_runner.join("\n").as_bytes());
    load(&flags([("config", &path)]), []).unwrap();
    // As it is shipped, it sets nothing.
    assert_eq!(super::file::parse(SAMPLE, ""), Ok(vec![]));
}

#[test]
fn the_listing_is_a_table_of_three_columns() {
    let (_directory, _, path) = file(b"\nworker-group = 'my group'");
    let mut options =
        flags([("config", &path), ("hostname", "h"), ("taskrunner-id", "etl-1"), ("profile", "p")]);
    options.presets.push(preset("grace", "5s"));
    let config =
        load(&options, environment([("TASKBEAT_JITTER", "5%"), ("AWS_REGION", "us-east-1")]))
            .unwrap();
    let listing = config.listing.to_string();
    let listing = listing.replace(&format!("{path:48}"), "PATH").replace(&path, "PATH");
    let lines: Vec<&str> = listing.lines().collect();
    assert!(lines[0].starts_with("config              PATH"), "{listing}");
    let columns: Vec<Vec<&str>> = lines
        .iter()
        .map(|line| line.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect())
        .collect();
    let expected: [[&str; 3]; 24] = [
        ["config", "PATH", "flag --config"],
        ["taskrunner-id", "etl-1", "flag --taskrunner-id"],
        ["worker-group", r#""my group""#, "file PATH:2"],
        ["hostname", "h", "flag --hostname"],
        ["region", "us-east-1", "environment AWS_REGION"],
        ["profile", "p", "flag --profile"],
        ["endpoint-url", "-", "left to the AWS SDK"],
        ["interval", "15m", "default"],
        ["jitter", "5%", "environment TASKBEAT_JITTER"],
        ["lost-contact-after", "-", "not set"],
        ["grace", "5s", "default (rehearse)"],
        ["stop-signal", "SIGTERM", "default"],
        ["stop-scope", "group", "default"],
        ["command", "-", "not set"],
        ["pid", "-", "not set"],
        ["pid-file", "-", "not set"],
        ["after-terminate", "exit", "default"],
        ["on-terminate", "-", "not set"],
        ["health-check", "-", "not set"],
        ["health-timeout", "30s", "default"],
        ["on-contact-change", "-", "not set"],
        ["log-format", "auto", "default"],
        ["log", "info", "default"],
        ["metrics-listen", "-", "not set"],
    ];
    assert_eq!(columns, expected);
    let json = serde_json::to_value(&config.listing).unwrap();
    let group = json!({
        "key": "worker-group",
        "value": "my group",
        "origin": {"source": "file", "at": {"path": path, "line": 2}},
    });
    let region = json!({
        "key": "region",
        "value": "us-east-1",
        "origin": {"source": "environment", "at": "AWS_REGION"},
    });
    let endpoint = json!({"key": "endpoint-url", "value": null, "origin": {"source": "sdk"}});
    for (row, expected) in [(2, group), (4, region), (6, endpoint)] {
        assert_eq!(json[row], expected);
    }
    let aligned = |line: &&str| line.rfind("  ").map(|gap| gap + 2);
    assert_eq!(lines[1..].iter().map(aligned).collect::<Vec<_>>(), vec![aligned(&lines[1]); 23]);
}

/// The warnings about these settings, each on one line.
fn warnings<const N: usize>(given: [(&'static str, &str); N]) -> Vec<String> {
    settings(given).warnings().iter().map(ToString::to_string).collect()
}

#[test]
fn probable_mistakes_get_a_warning() {
    let region = "region us-east-2 has no known Data Pipeline endpoint; \
                  these have one: us-east-1, us-west-2, eu-west-1, ap-northeast-1, \
                  ap-southeast-2";
    let plain = "endpoint http://localhost.example.com/ is plain http: \
                 on the way, heartbeats can be read and answers forged; use https";
    let interval = "interval 59s is short: \
                    all runners of an AWS account share one heartbeat per second; use 1m or more";
    let metrics = "any host that reaches 0.0.0.0:9464 can read the metrics; \
                   use an address of loopback, or a firewall";
    for (given, expected) in [
        ([("region", "us-east-1"), ("interval", "1m")], vec![]),
        ([("region", "us-east-1"), ("metrics-listen", "127.0.0.2:9464")], vec![]),
        ([("region", "us-east-1"), ("metrics-listen", "0.0.0.0:9464")], vec![metrics]),
        ([("region", "us-east-2"), ("interval", "59s")], vec![region, interval]),
        ([("region", "us-east-2"), ("endpoint-url", "https://example.com")], vec![]),
        ([("interval", "59s"), ("endpoint-url", "https://example.com")], vec![interval]),
        ([("interval", "59s"), ("endpoint-url", "http://127.0.0.2:80")], vec![]),
        ([("interval", "59s"), ("endpoint-url", "http://[::1]:80/")], vec![]),
        ([("interval", "59s"), ("endpoint-url", "http://LOCALHOST/")], vec![]),
        (
            [("interval", "59s"), ("endpoint-url", "http://localhost.example.com/")],
            vec![plain, interval],
        ),
    ] {
        assert_eq!(warnings(given), expected, "{given:?}");
    }
}

#[test]
fn endpoint_variants_that_do_not_exist_get_a_warning() {
    let warnings = |value| {
        let variables = [
            ("TASKBEAT_TASKRUNNER_ID", "t"),
            ("AWS_USE_FIPS_ENDPOINT", value),
            ("AWS_USE_DUALSTACK_ENDPOINT", value),
        ];
        let config = load(&Options::default(), environment(variables)).unwrap();
        config.settings.warnings()
    };
    let warning = |name| {
        let problem = format!(
            "{name} is true, but Data Pipeline has no such endpoint: no heartbeat will arrive"
        );
        Warning::new(problem, "unset it")
    };
    let both = ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"].map(warning);
    assert_eq!(warnings("TRUE"), both);
    assert!(warnings("false").is_empty());
}

#[test]
fn the_same_sources_make_equal_settings() {
    let (_directory, path, shown) = file(b"grace = '1s'");
    let options = flags([("config", &shown), ("taskrunner-id", "t")]);
    let before = load(&options, []).unwrap().settings;
    assert_eq!(before, load(&options, []).unwrap().settings);
    fs::write(path, "grace = '2s'").unwrap();
    assert_ne!(before, load(&options, []).unwrap().settings);
}

proptest! {
    #[test]
    fn no_value_panics(index in 1..SETTINGS.len(), value in any::<Vec<u8>>()) {
        let variables = [(SETTINGS[index].variable().into(), OsString::from_vec(value))];
        if let Err(errors) = load(&Options::default(), variables) {
            prop_assert!(errors.iter().all(|error| !error.contains('\n')));
        }
    }

    #[test]
    fn no_near_value_panics(
        index in 1..SETTINGS.len(),
        value in r"(http://|\[|@|:|[0-9]{1,25}|\.|%|ms|h|us-|SIG|\*|\PC)*",
    ) {
        let variables = environment([(&SETTINGS[index].variable(), &value)]);
        if let Ok(config) = load(&Options::default(), variables) {
            drop((config.listing.to_string(), config.settings.warnings()));
        }
    }

    #[test]
    fn no_file_panics(text in r#"([a-z-]{1,9}|=|"|'|\[|\]|\{|\}|#|\n|\.|[0-9]|\PC)*"#) {
        if let Err(errors) = super::file::parse(&text, "t.toml") {
            prop_assert!(errors.iter().all(|error| !error.contains('\n')));
        }
    }

    #[test]
    fn no_message_repeats_a_password(
        user in "[a-z]{0,3}",
        password in r"Z[a-z/:@?#\[\]%]{0,8}Z",
        host in "[a-z]{0,5}",
        path in "[/?#a-z]{0,5}",
    ) {
        let url = format!("https://{user}:{password}@{host}{path}");
        let message = load(&flags([("endpoint-url", &url)]), []).unwrap_err().join("\n");
        prop_assert!(!message.contains('Z'), "{}", message);
        let message = errors_of_variable("HTTPS_PROXY", &url);
        prop_assert!(!message.contains('Z'), "{}", message);
    }
}
