//! What is wrong is refused before anything starts, what is right can be looked at.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use serde_json::{Value, json};

use crate::harness::{Endpoint, Play, Taskbeat};

/// Refused with status 78 and one line on stderr that holds all of `words`. Neither the runner nor a heartbeat was
/// started.
fn is_refused(spoil: impl FnOnce(Taskbeat) -> Taskbeat, words: &[&str]) {
    let endpoint = Endpoint::ok();
    let finished = spoil(Taskbeat::run(&endpoint))
        .script("echo started")
        .finish();
    assert_eq!(finished.status, 78, "{finished:?}");
    assert_eq!(finished.text(), "");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    for word in words {
        assert!(finished.stderr.contains(word), "no {word}: {finished:?}");
    }
    assert!(endpoint.requests().is_empty());
}

#[test]
fn a_taskrunner_id_is_required() {
    is_refused(
        |taskbeat| taskbeat.without("TASKBEAT_TASKRUNNER_ID"),
        &["taskrunner-id", "--taskrunner-id", "TASKBEAT_TASKRUNNER_ID"],
    );
}

#[test]
fn an_empty_taskrunner_id_is_refused() {
    is_refused(
        |taskbeat| taskbeat.set("--taskrunner-id", ""),
        &["taskrunner-id = \"\"", "flag --taskrunner-id", "1 to 1024"],
    );
}

#[test]
fn a_taskrunner_id_that_is_too_long_is_refused() {
    is_refused(
        |taskbeat| taskbeat.set("--taskrunner-id", "x".repeat(1025)),
        &["taskrunner-id", "1 to 1024"],
    );
}

#[test]
fn a_taskrunner_id_with_control_characters_is_refused() {
    is_refused(
        |taskbeat| taskbeat.env("TASKBEAT_TASKRUNNER_ID", "a\u{1b}[2Jb\nc"),
        &["taskrunner-id", "environment TASKBEAT_TASKRUNNER_ID"],
    );
}

#[test]
fn a_taskrunner_id_that_is_not_utf8_is_refused() {
    let id = || OsString::from_vec(b"runner-\xff".to_vec());
    is_refused(
        |taskbeat| taskbeat.set("--taskrunner-id", id()),
        &["taskrunner-id", "UTF-8", "flag"],
    );
    is_refused(
        |taskbeat| taskbeat.env("TASKBEAT_TASKRUNNER_ID", id()),
        &["taskrunner-id", "UTF-8", "environment"],
    );
}

#[test]
fn a_worker_group_with_a_wildcard_is_refused() {
    is_refused(
        |taskbeat| taskbeat.set("--worker-group", "wg-*"),
        &["worker-group = \"wg-*\"", "flag --worker-group"],
    );
}

#[test]
fn an_interval_of_nothing_is_refused() {
    is_refused(
        |taskbeat| taskbeat.set("--interval", "0s"),
        &["interval = \"0s\"", "flag --interval", "10ms to 15m"],
    );
}

#[test]
fn an_interval_that_is_too_long_is_refused() {
    is_refused(
        |taskbeat| taskbeat.env("TASKBEAT_INTERVAL", "16m"),
        &["interval = \"16m\"", "environment TASKBEAT_INTERVAL"],
    );
}

#[test]
fn an_unknown_variable_of_ours_is_refused() {
    is_refused(
        |taskbeat| taskbeat.env("TASKBEAT_INTERVALL", "1m"),
        &["TASKBEAT_INTERVALL", "did you mean TASKBEAT_INTERVAL?"],
    );
}

/// A configuration file of this text.
fn with_file(taskbeat: Taskbeat, text: &str) -> Taskbeat {
    let path = taskbeat.home().join("taskbeat.toml");
    fs::write(&path, text).unwrap();
    taskbeat.set("--config", path)
}

#[test]
fn an_unknown_key_of_the_file_is_refused() {
    is_refused(
        |taskbeat| with_file(taskbeat, "grace = \"5s\"\ntask-runner-id = \"a\"\n"),
        &[
            "task-runner-id",
            "taskbeat.toml:2",
            "did you mean taskrunner-id?",
        ],
    );
}

#[test]
fn a_file_that_is_not_toml_is_refused() {
    is_refused(
        |taskbeat| with_file(taskbeat, "grace = 5s\n"),
        &["taskbeat.toml:1", "TOML"],
    );
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    is_refused(
        |taskbeat| taskbeat.set("--config", "/nonexistent/taskbeat.toml"),
        &["config", "/nonexistent/taskbeat.toml", "flag --config"],
    );
}

#[test]
fn what_the_sdk_would_panic_on_is_refused() {
    for value in ["0", "-1", "many", ""] {
        is_refused(
            |taskbeat| taskbeat.env("AWS_MAX_ATTEMPTS", value),
            &["AWS_MAX_ATTEMPTS", "at least 1"],
        );
    }
}

const KEYS: [&str; 3] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
];

#[test]
fn a_key_with_spaces_or_line_breaks_is_refused_and_not_repeated() {
    for key in KEYS {
        for value in [
            "AKID\n",
            " AKID",
            "AKID AKID",
            "AKID\r",
            "\tAKID",
            "AKID\u{7f}",
            "AKIDé",
        ] {
            let origin = format!("{key} = *** (environment {key}): must be plain ASCII");
            is_refused(|taskbeat| taskbeat.env(key, value), &[&origin]);
        }
        let not_utf8 = OsString::from_vec(b"AKID\xff".to_vec());
        is_refused(|taskbeat| taskbeat.env(key, not_utf8), &[key]);
    }
}

#[test]
fn a_blank_key_is_none() {
    let check = || Taskbeat::new("check").flag("--online");
    let blank = check().env("AWS_SESSION_TOKEN", " \n").finish();
    assert_eq!(blank.status, 0, "{blank:?}");
    for key in &KEYS[..2] {
        let none = check().env(key, "").finish();
        assert_eq!(none.status, 69, "{none:?}");
    }
}

#[test]
fn an_endpoint_that_is_no_url_is_refused() {
    for url in [
        "127.0.0.1:1",
        "ftp://127.0.0.1",
        "http://",
        "http://127.0.0.1:0",
    ] {
        is_refused(
            |taskbeat| taskbeat.set("--endpoint-url", url),
            &["endpoint-url", "flag --endpoint-url", "http"],
        );
        is_refused(
            |taskbeat| taskbeat.to(url),
            &["endpoint-url", "AWS_ENDPOINT_URL_DATA_PIPELINE"],
        );
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let finished = Taskbeat::new("run")
        .set("--interval", "soon")
        .set("--grace", "later")
        .env("TASKBEAT_COLOUR", "green")
        .finish();
    assert_eq!(finished.status, 78, "{finished:?}");
    for word in ["interval", "grace", "TASKBEAT_COLOUR"] {
        let lines = finished.stderr.lines();
        assert_eq!(lines.filter(|line| line.starts_with(word)).count(), 1);
    }
}

#[test]
fn what_another_setting_may_not_be_once_may_not_either() {
    let endpoint = Endpoint::ok();
    let once = Taskbeat::new("once").to(&endpoint.url());
    let finished = once.set("--worker-group", "*").finish();
    assert_eq!(finished.status, 78, "{finished:?}");
    assert!(endpoint.requests().is_empty());
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let endpoint = Endpoint::play([], Play::Terminate);
    let taskbeat = Taskbeat::run(&endpoint);
    let id = format!("{} of the variable", taskbeat.id());
    let taskbeat = taskbeat
        .set("--worker-group", "of the flag")
        .env("TASKBEAT_WORKER_GROUP", "of the variable")
        .env("TASKBEAT_TASKRUNNER_ID", &id)
        .without("TASKBEAT_HOSTNAME");
    let file = "worker-group = 'of the file'\ntaskrunner-id = 'of the file'\n\
                hostname = 'of the file'\n";
    assert_eq!(with_file(taskbeat, file).finish().status, 0);
    let expected = json!({
        "taskrunnerId": id,
        "workerGroup": "of the flag",
        "hostname": "of the file",
    });
    assert_eq!(endpoint.requests()[0].body, expected);
}

#[test]
fn a_command_line_that_cannot_be_understood_makes_the_status_64() {
    for flags in [
        &["--no-such-flag"][..],
        &["--interval"],
        &["stray"],
        &["--"],
        &["--", ""],
    ] {
        let endpoint = Endpoint::ok();
        let mut taskbeat = Taskbeat::run(&endpoint);
        for flag in flags {
            taskbeat = taskbeat.flag(flag);
        }
        let finished = taskbeat.finish();
        assert_eq!(finished.status, 64, "{finished:?}");
        assert_eq!(finished.text(), "");
        assert!(!finished.stderr.is_empty());
        assert!(endpoint.requests().is_empty());
    }
    assert_eq!(Taskbeat::new("no-such-subcommand").finish().status, 64);
}

#[test]
fn help_and_version_are_printed_whatever_else_is_wrong() {
    for subcommand in ["run", "once", "check", "rehearse"] {
        let help = Taskbeat::new(subcommand)
            .without("TASKBEAT_TASKRUNNER_ID")
            .env("TASKBEAT_INTERVAL", "soon")
            .flag("--help");
        let finished = help.finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        assert!(finished.text().contains("--taskrunner-id"), "{finished:?}");
        assert_eq!(finished.stderr, "");
    }
    let version = Taskbeat::new("--version").finish();
    assert_eq!(version.status, 0);
    let expected = format!("taskbeat {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(version.text(), expected);
}

#[test]
fn check_prints_every_value_and_where_it_came_from() {
    let endpoint = Endpoint::ok();
    let check = Taskbeat::new("check")
        .to(&endpoint.url())
        .set("--taskrunner-id", "tr-1")
        .without("TASKBEAT_GRACE")
        .without("TASKBEAT_HOSTNAME");
    let finished = with_file(check, "stop-signal = 'INT'\n")
        .script("echo started")
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let text = finished.text();
    let row = |key: &str| {
        let mut rows = text.lines().map(|line| line.split_whitespace());
        let row = rows.find(|row| row.clone().next() == Some(key));
        row.unwrap_or_else(|| panic!("no {key}: {text}"))
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(row("taskrunner-id"), "tr-1 flag --taskrunner-id");
    assert_eq!(row("interval"), "300ms environment TASKBEAT_INTERVAL");
    assert!(row("stop-signal").starts_with("INT file "), "{text}");
    assert_eq!(row("grace"), "30s default");
    assert!(row("hostname").ends_with("default"), "{text}");
    assert_eq!(row("region"), "eu-west-1 environment AWS_REGION");
    assert_eq!(row("profile"), "- left to the AWS SDK");
    assert!(row("command").ends_with("command line"), "{text}");
    assert!(!text.contains("started\n"), "{text}");
    assert!(endpoint.requests().is_empty());
}

#[test]
fn check_refuses_what_run_refuses() {
    let finished = Taskbeat::new("check").set("--interval", "0s").finish();
    assert_eq!(finished.status, 78, "{finished:?}");
}

#[test]
fn check_online_resolves_credentials_and_sends_nothing() {
    let endpoint = Endpoint::ok();
    let check = Taskbeat::new("check").to(&endpoint.url()).flag("--online");
    let finished = check.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let text = finished.text();
    let online = "; credentials from environment: access key AKID…MPLE, expires never";
    assert!(text.contains(online), "{text}");
    assert!(!text.contains("AKIDEXAMPLE"), "{text}");
    assert!(endpoint.requests().is_empty());
}

#[test]
fn what_a_source_gives_takes_one_line_and_no_control_over_the_terminal() {
    let check = Taskbeat::new("check")
        .without("AWS_ACCESS_KEY_ID")
        .without("AWS_SECRET_ACCESS_KEY");
    let config = check.home().join("config");
    let said = r#"{"Version":1,"AccessKeyId":"A\u001b\n\rMIDDLE\n\tZ\u0007","SecretAccessKey":"a-secret"}"#;
    fs::write(check.home().join("said"), said).unwrap();
    let text = "[default]\ncredential_process = cat said\n";
    fs::write(&config, text).unwrap();
    let finished = check
        .env("AWS_CONFIG_FILE", config)
        .flag("--online")
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let shown = finished.text();
    let last = shown.lines().last().unwrap();
    let words = "; credentials from profile default: access key A … Z, expires never";
    assert!(last.ends_with(words), "{last}");
    assert!(!shown.contains("MIDDLE"), "{shown}");
}

#[test]
fn check_online_without_credentials_makes_the_status_69() {
    let finished = Taskbeat::new("check")
        .without("AWS_ACCESS_KEY_ID")
        .without("AWS_SECRET_ACCESS_KEY")
        .flag("--online")
        .finish();
    assert_eq!(finished.status, 69, "{finished:?}");
    let last = finished.stderr.lines().last().unwrap();
    assert!(last.contains("credentials"), "{finished:?}");
}

/// What `once` makes of an answer: its exit status, and what it prints.
fn once(play: Play) -> (i32, String) {
    let endpoint = Endpoint::play([], play);
    let finished = Taskbeat::new("once").to(&endpoint.url()).finish();
    assert_eq!(endpoint.requests().len(), 1);
    if finished.status >= 64 {
        assert!(finished.stderr.starts_with("taskbeat: "), "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    }
    (finished.status, finished.text())
}

#[test]
fn once_prints_the_answer_as_json() {
    let (status, text) = once(Play::Ok);
    assert_eq!(status, 0);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer, json!({ "terminate": false }));

    let (status, text) = once(Play::Terminate);
    assert_eq!(status, 10);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer, json!({ "terminate": true }));
}

#[test]
fn once_makes_the_status_69_when_there_is_no_answer() {
    let portal = Play::Say(crate::harness::Response::bare(200, "<html>"));
    for play in [
        Play::fault(),
        Play::throttle(),
        Play::Hang,
        Play::ResetWithin,
        Play::body("{}"),
        portal,
    ] {
        assert_eq!(once(play), (69, String::new()));
    }
    let closed = Endpoint::closed();
    let finished = Taskbeat::new("once").to(&closed.url()).finish();
    assert_eq!(finished.status, 69, "{finished:?}");
}

#[test]
fn once_makes_the_status_77_when_it_is_rejected() {
    for play in [
        Play::deny(),
        Play::error(400, "ExpiredTokenException", "It expired"),
        Play::error(403, "InvalidSignatureException", "It does not match"),
        Play::error(400, "InvalidRequestException", "Invalid"),
    ] {
        assert_eq!(once(play), (77, String::new()));
    }
}
