//! A wrong configuration is refused before anything starts; a right one can be inspected.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Signal, geteuid};
use rustix::system::uname;
use serde_json::{Value, json};
use taskbeat::config::SETTINGS;

use crate::harness::{Endpoint, Step, Taskbeat, eventually, runner, skip_without};

/// Checks that the changed program exits with 78 and one line on stderr that holds all of `words`,
/// and starts neither the runner nor a heartbeat.
fn is_refused(change: impl FnOnce(Taskbeat) -> Taskbeat, words: &[&str]) {
    let endpoint = Endpoint::ok();
    let finished = change(Taskbeat::run(&endpoint)).script("echo started").finish();
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
fn an_unknown_variable_is_refused() {
    is_refused(
        |taskbeat| taskbeat.env("TASKBEAT_INTERVALL", "1m"),
        &["TASKBEAT_INTERVALL", "did you mean TASKBEAT_INTERVAL?"],
    );
}

/// The program with a configuration file of this text.
fn with_file(taskbeat: Taskbeat, text: &str) -> Taskbeat {
    let path = taskbeat.home().join("taskbeat.toml");
    fs::write(&path, text).unwrap();
    taskbeat.set("--config", path)
}

#[test]
fn an_unknown_key_of_the_file_is_refused() {
    is_refused(
        |taskbeat| with_file(taskbeat, "grace = \"5s\"\ntask-runner-id = \"a\"\n"),
        &["task-runner-id", "taskbeat.toml:2", "did you mean taskrunner-id?"],
    );
}

#[test]
fn a_file_that_is_not_toml_is_refused() {
    is_refused(|taskbeat| with_file(taskbeat, "grace = 5s\n"), &["taskbeat.toml:1", "TOML"]);
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    is_refused(
        |taskbeat| taskbeat.set("--config", "/nonexistent/taskbeat.toml"),
        &["config", "/nonexistent/taskbeat.toml", "flag --config"],
    );
}

#[test]
fn a_fifo_is_refused_as_the_configuration_file() {
    is_refused(
        |taskbeat| {
            let path = taskbeat.home().join("taskbeat.toml");
            mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
            taskbeat.set("--config", path)
        },
        &["config", "taskbeat.toml", "flag --config", "it is a FIFO"],
    );
}

#[test]
fn a_configuration_that_hangs_is_not_invalid_so_a_unit_tries_it_again() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint).set("--config", "/dev/stdin").with_stdin();
    let mut daemon = program.script("echo started").start();
    assert_eq!(daemon.wait(), 70);
    let log = daemon.log();
    assert!(log.ends_with("the settings could not be read within 10s; a file hangs\n"), "{log}");
    assert_eq!(daemon.output(), "");
}

#[test]
fn a_reload_does_not_hang_in_a_fifo() {
    let endpoint = Endpoint::ok();
    let taskbeat = with_file(Taskbeat::run(&endpoint), "");
    let path = taskbeat.home().join("taskbeat.toml");
    let mut daemon = taskbeat.script(runner::OBEDIENT).start();
    daemon.wait_for_pid("ready");
    fs::remove_file(&path).unwrap();
    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("it is a FIFO");
    endpoint.wait_for_more(2);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), 42);
}

#[test]
fn a_pipe_of_the_shell_is_read_as_the_configuration_file() {
    let check = Taskbeat::new("check").without("TASKBEAT_GRACE").via(&[
        "bash",
        "-c",
        "exec \"$@\" --config <(echo \"grace = '7s'\")",
        "-",
    ]);
    let finished = check.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let grace = finished.text();
    let grace = grace.lines().find(|line| line.starts_with("grace "));
    assert!(grace.unwrap().contains(" 7s "), "{finished:?}");
}

#[test]
fn the_retries_of_the_sdk_are_not_used() {
    for value in ["0", "-1", "many"] {
        let endpoint = Endpoint::play([Step::ResetBefore], Step::Terminate);
        let taskbeat = Taskbeat::run(&endpoint).env("AWS_MAX_ATTEMPTS", value);
        let finished = taskbeat.env("AWS_RETRY_MODE", value).script("exec sleep 1h").finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        assert_eq!(endpoint.requests().len(), 2);
    }
}

const KEYS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

#[test]
fn a_key_with_spaces_or_line_breaks_is_refused_and_not_repeated() {
    for key in KEYS {
        for value in ["AKID\n", " AKID", "AKID AKID", "AKID\r", "\tAKID", "AKID\u{7f}", "AKIDé"] {
            let origin = format!("{key} = *** (environment {key}): must be plain ASCII");
            is_refused(|taskbeat| taskbeat.env(key, value), &[&origin]);
        }
        let not_utf8 = OsString::from_vec(b"AKID\xff".to_vec());
        is_refused(|taskbeat| taskbeat.env(key, not_utf8), &[key]);
    }
}

#[test]
fn a_blank_key_counts_as_unset() {
    let check = || Taskbeat::new("check").flag("--online");
    let blank = check().env("AWS_SESSION_TOKEN", " \n").finish();
    assert_eq!(blank.status, 0, "{blank:?}");
    for key in &KEYS[..2] {
        let none = check().env(key, "").finish();
        assert_eq!(none.status, 69, "{none:?}");
    }
}

/// Variables that the SDK reads and taskbeat does not check.
const OF_THE_SDK: [&str; 27] = [
    "AWS_ACCOUNT_ID",
    "AWS_ACCOUNT_ID_ENDPOINT_MODE",
    "AWS_AUTH_SCHEME_PREFERENCE",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_DEFAULTS_MODE",
    "AWS_DISABLE_CLOCK_SKEW_CORRECTION",
    "AWS_DISABLE_REQUEST_COMPRESSION",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_EXECUTION_ENV",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LOGIN_CACHE_DIRECTORY",
    "AWS_NEW_RETRIES_2026",
    "AWS_RETRY_MODE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SDK_UA_APP_ID",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "SECRET_ACCESS_KEY",
    "_X_AMZN_TRACE_ID",
];

#[test]
fn no_variable_makes_the_sdk_panic() {
    let endpoint = Endpoint::ok();
    let once = |value: &OsStr, keys: bool| {
        let mut once = Taskbeat::new("once").to(&endpoint.url());
        for name in OF_THE_SDK {
            once = once.env(name, value);
        }
        // With the key alone, the SDK takes SECRET_ACCESS_KEY.
        for name in KEYS.into_iter().skip(1).filter(|_| !keys) {
            once = once.without(name);
        }
        let finished = once.finish();
        assert!([0, 69].contains(&finished.status), "{finished:?}");
        assert!(!finished.stderr.contains("internal"), "{finished:?}");
    };
    for value in ["a\nb", "\u{1b}[2J", " ", "é", "true", "a/b:c@d"] {
        once(OsStr::new(value), true);
        once(OsStr::new(value), false);
    }
    once(OsStr::from_bytes(b"\xff"), true);
    once(OsStr::from_bytes(b"\xff"), false);
}

#[test]
fn an_empty_variable_counts_as_unset_for_the_sdk_and_stays_empty_for_the_runner() {
    let endpoint = Endpoint::play([], Step::Terminate);
    let mut taskbeat = Taskbeat::run(&endpoint).env("TASKBEAT_WORKER_GROUP", "");
    let checked = [
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_PROFILE",
        "AWS_REGION",
    ];
    for name in OF_THE_SDK.into_iter().chain(KEYS).chain(checked) {
        taskbeat = taskbeat.env(name, "");
    }
    let folder = taskbeat.home().join(".aws");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("config"), "[default]\nregion = eu-west-1\n").unwrap();
    let keys = "[default]\naws_access_key_id = AKIDFILE\naws_secret_access_key = a\n";
    fs::write(folder.join("credentials"), keys).unwrap();
    let finished = taskbeat
        .script(
            "echo \"${AWS_REGION-unset}|${AWS_PROFILE-unset}|${TASKBEAT_WORKER_GROUP-unset}|\"
            exec sleep 1h",
        )
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(finished.text(), "|||\n");
    let requests = endpoint.requests();
    let credential = requests[0].header("authorization");
    assert!(credential.contains("AKIDFILE"), "{credential}");
    assert!(credential.contains("/eu-west-1/"), "{credential}");
    assert!(requests[0].body.get("workerGroup").is_none());
}

#[test]
fn an_empty_variable_of_taskbeat_counts_as_unset() {
    let check = Taskbeat::new("check").without("TASKBEAT_HOSTNAME");
    let set = ["TASKBEAT_INTERVAL", "TASKBEAT_JITTER", "TASKBEAT_GRACE"];
    let unset = set.into_iter().fold(check, Taskbeat::without).set("--taskrunner-id", "t").finish();
    assert_eq!(unset.status, 0, "{unset:?}");
    let mut check = Taskbeat::new("check").env("TASKBEAT_NO_SUCH_SETTING", "");
    for setting in SETTINGS {
        let name = setting.key.to_uppercase().replace('-', "_");
        check = check.env(format!("TASKBEAT_{name}"), "");
    }
    let empty = check.set("--taskrunner-id", "t").finish();
    assert_eq!(empty.status, 0, "{empty:?}");
    assert_eq!(empty.text(), unset.text());
    is_refused(
        |taskbeat| taskbeat.env("TASKBEAT_TASKRUNNER_ID", ""),
        &["taskrunner-id is not set: "],
    );
}

#[test]
fn the_variables_of_a_kubernetes_service_are_ignored() {
    let endpoint = Endpoint::play([], Step::Terminate);
    let finished = Taskbeat::run(&endpoint)
        .env("TASKBEAT_PORT", "tcp://10.0.0.1:8080")
        .env("TASKBEAT_PORT_8080_TCP", "tcp://10.0.0.1:8080")
        .env("TASKBEAT_PORT_8080_TCP_ADDR", "10.0.0.1")
        .env("TASKBEAT_SERVICE_HOST", "10.0.0.1")
        .env("TASKBEAT_SERVICE_PORT_STATUS", "8080")
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
}

#[test]
fn an_unusable_proxy_is_refused_and_its_password_is_not_repeated() {
    for (name, value) in [
        ("HTTPS_PROXY", "http://user:Zp@ssZ@127.0.0.1:1"),
        ("https_proxy", "ftp://user:ZpassZ@127.0.0.1:1"),
        ("HTTP_PROXY", "\"http://user:ZpassZ@127.0.0.1:1\""),
        ("ALL_PROXY", "http://user:ZpassZ@"),
    ] {
        is_refused(|taskbeat| taskbeat.env(name, value), &[name, "must be an http or https URL"]);
        let finished = Taskbeat::new("run").env(name, value).finish();
        assert!(!finished.stderr.contains('Z'), "{finished:?}");
    }
}

#[test]
fn a_usable_proxy_gets_the_heartbeat_and_its_whole_password() {
    let proxy = Endpoint::play([], Step::Terminate);
    let address = proxy.addr();
    for (name, value) in [
        ("HTTP_PROXY", format!("http://user:p%40ss%2Fword@{address}")),
        ("all_proxy", format!("user:p%40ss%2Fword@{address}")),
    ] {
        let taskbeat = Taskbeat::new("run").to("http://datapipeline.invalid");
        let finished = taskbeat.env(name, value).finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        let request = proxy.requests().pop().unwrap();
        assert!(request.line.contains("http://datapipeline.invalid/"));
        // user:p@ss/word
        let password = "Basic dXNlcjpwQHNzL3dvcmQ=";
        assert_eq!(request.header("proxy-authorization"), password);
    }
}

#[test]
fn doubled_braces_reach_the_service_as_literal_ones() {
    let endpoint = Endpoint::play([], Step::Terminate);
    let taskbeat = Taskbeat::run(&endpoint);
    let id = taskbeat.id();
    let finished = taskbeat
        .set("--taskrunner-id", format!("{id}{{{{1}}}}"))
        .set("--worker-group", "{{hostname}}")
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let body = &endpoint.requests()[0].body;
    assert_eq!(body["taskrunnerId"], format!("{id}{{1}}"));
    assert_eq!(body["workerGroup"], "{hostname}");
}

#[test]
fn check_warns_and_says_what_to_do() {
    let check = Taskbeat::new("check")
        .env("TASKBEAT_INTERVAL", "1m")
        .set("--endpoint-url", "http://datapipeline.example")
        .env("AWS_USE_FIPS_ENDPOINT", "true")
        .command(&["no such program"]);
    let finished = check.finish();
    assert_eq!((finished.status, finished.stderr.as_str()), (0, ""), "{finished:?}");
    let text = finished.text();
    let (_, warnings) = text.split_once("\n\nwarning: ").unwrap();
    assert_eq!(
        warnings,
        "AWS_USE_FIPS_ENDPOINT is true, but Data Pipeline has no such endpoint: \
         no heartbeat will arrive\n         unset it\n\n\
         warning: endpoint http://datapipeline.example is plain http: \
         on the way, heartbeats can be read and answers forged\n         use https\n\n\
         warning: \"no such program\" is no executable file, and in no folder of PATH\n         \
         install it, or write its full path; a shell line needs sh -c before it\n\n"
    );
}

/// The value of this row of what `check` prints.
fn row(text: &str, key: &str) -> String {
    let mut rows = text.lines().filter_map(|line| line.strip_prefix(key));
    rows.find(|rest| rest.starts_with(' '))
        .unwrap_or_else(|| panic!("no {key}: {text}"))
        .trim()
        .to_owned()
}

#[test]
fn check_prints_what_would_run_and_as_whom() {
    let check = |program: Taskbeat| {
        let finished = program.finish();
        assert_eq!((finished.status, finished.stderr.as_str()), (0, ""), "{finished:?}");
        finished.text()
    };
    let program = Taskbeat::new("check").command(&["sh", "-c", "echo started"]);
    let home = program.home().canonicalize().unwrap();
    let text = check(program);
    assert_eq!(row(&text, "runs"), "sh -c \"echo started\"");
    assert!(row(&text, "program").ends_with("/sh"), "{text}");
    let uid = geteuid().as_raw();
    let is_user = |user: String| user == uid.to_string() || user.ends_with(&format!(" ({uid})"));
    assert!(is_user(row(&text, "user")), "{text}");
    assert_eq!(row(&text, "folder"), home.to_str().unwrap());
    assert_eq!(row(&text, "kernel"), uname().release().to_str().unwrap());
    assert!(!text.contains("started\n"), "{text}");

    let text = check(Taskbeat::new("check"));
    assert_eq!(row(&text, "runs"), "-");

    let own = std::process::id();
    let program = Taskbeat::new("check");
    let file = program.home().join("runner.pid");
    fs::write(&file, format!("{own}\n")).unwrap();
    let text = check(program.set("--pid-file", file));
    assert!(row(&text, "runs").starts_with(&format!("process {own}, ")), "{text}");
    assert!(is_user(row(&text, "user")), "{text}");

    let text = check(Taskbeat::new("check").set("--pid-file", "/nonexistent"));
    assert_eq!(row(&text, "runs"), "-");
    let warning = "warning: /nonexistent does not exist\n         \
                   start it; no heartbeat is sent without the runner\n";
    assert!(text.contains(warning), "{text}");
}

#[test]
fn check_online_warns_of_what_a_profile_says() {
    let check = Taskbeat::new("check").without("AWS_REGION").env("TASKBEAT_INTERVAL", "1m");
    let config = check.home().join("config");
    fs::write(&config, "[default]\nregion = eu-central-1\n").unwrap();
    let finished = check.env("AWS_CONFIG_FILE", config).flag("--online").finish();
    assert_eq!((finished.status, finished.stderr.as_str()), (0, ""), "{finished:?}");
    let text = finished.text();
    let warning = "\nwarning: region eu-central-1 has no known Data Pipeline endpoint\n         \
                   these have one: ";
    assert_eq!(text.matches(warning).count(), 1, "{text}");
    assert!(text.contains("\nregion              eu-central-1\n"), "{text}");
}

#[test]
fn check_warns_of_a_kernel_that_refuses_what_taskbeat_needs() {
    if Command::new("strace").arg("-V").output().is_err() {
        return skip_without("strace");
    }
    // Of the main thread, which alone is traced.
    let inject = ["strace", "-o", "strace", "-e", "inject=pidfd_open,prctl:error=EINVAL"];
    let check = Taskbeat::new("check").env("TASKBEAT_INTERVAL", "1m").via(&inject);
    let finished = check.flag("--json").finish();
    assert_eq!((finished.status, finished.stderr.as_str()), (0, ""), "{finished:?}");
    let found: Value = serde_json::from_str(&finished.text()).unwrap();
    assert_eq!([&found["host"]["pidfd"], &found["host"]["subreaper"]], [false, false]);
    let problems = found["warnings"].as_array().unwrap().iter().map(|warning| &warning["problem"]);
    let expected = [
        "the kernel offers no pidfds, without which no runner can be watched",
        "the kernel does not let taskbeat adopt the runner's orphans",
    ];
    assert_eq!(problems.collect::<Vec<_>>(), expected);
}

#[test]
fn a_quiet_check_prints_errors_only() {
    let check = || Taskbeat::new("check").flag("--quiet");
    let valid = check().finish();
    assert_eq!((valid.status, valid.text().as_str(), valid.stderr.as_str()), (0, "", ""));
    let invalid = check().set("--grace", "soon").finish();
    assert_eq!((invalid.status, invalid.text().as_str()), (78, ""));
    let error = "grace = \"soon\" (flag --grace): must be 0s to 24h, such as 2m, 30s or 500ms\n";
    assert_eq!(invalid.stderr, error);
    let offline = check().flag("--online").without("AWS_ACCESS_KEY_ID").finish();
    assert_eq!((offline.status, offline.text().as_str()), (69, ""));
    assert_eq!(offline.stderr.lines().count(), 1, "{offline:?}");
}

#[test]
fn check_reports_to_programs_what_it_prints_for_people() {
    let check = |program: Taskbeat| {
        let finished = program.flag("--json").finish();
        let value: Value = serde_json::from_str(&finished.text()).unwrap();
        (finished, value)
    };
    let endpoint = Endpoint::ok();
    let program = || Taskbeat::new("check").to(&endpoint.url()).flag("--online");
    let (finished, found) = check(program().command(&["sleep", "1"]));
    assert_eq!((finished.status, finished.stderr.as_str()), (0, ""), "{finished:?}");
    assert_eq!(found["runner"]["words"], json!(["sleep", "1"]));
    assert_eq!(found["online"]["identity"]["hostname"], "runner.example");
    assert_eq!(found["online"]["access"]["endpoint"], endpoint.url());
    assert_eq!(found["warnings"], json!([]));
    let settings = found["settings"].as_array().unwrap();
    assert_eq!(settings.len(), SETTINGS.len());

    let (finished, found) = check(program().without("AWS_SECRET_ACCESS_KEY"));
    assert_eq!(finished.status, 69, "{finished:?}");
    let error = found["online"]["error"].as_str().unwrap();
    assert_eq!(finished.stderr, format!("taskbeat: {error}\n"));

    let (finished, found) = check(program().env("TASKBEAT_GRACE", "soon"));
    assert_eq!(finished.status, 78, "{finished:?}");
    assert_eq!(found["errors"], json!([finished.stderr.trim_end()]));
    assert!(endpoint.requests().is_empty());
}

#[test]
fn a_command_that_cannot_run_is_named_on_one_line() {
    let endpoint = Endpoint::ok();
    let finished = Taskbeat::run(&endpoint).command(&["/no\nsuch\r\u{1b}[2Jrunner"]).finish();
    assert_eq!(finished.status, 127, "{finished:?}");
    let name = r#"cannot run "/no\nsuch\r\u{1b}[2Jrunner": "#;
    let mut lines = finished.stderr.lines();
    assert!(lines.any(|line| line.contains(name)), "{finished:?}");
}

#[test]
fn an_endpoint_that_is_no_url_is_refused() {
    for url in ["127.0.0.1:1", "ftp://127.0.0.1", "http://", "http://127.0.0.1:0"] {
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
fn all_errors_are_reported_at_once() {
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
fn once_refuses_the_same_values_as_run() {
    let endpoint = Endpoint::ok();
    let once = Taskbeat::new("once").to(&endpoint.url());
    let finished = once.set("--worker-group", "*").finish();
    assert_eq!(finished.status, 78, "{finished:?}");
    assert!(endpoint.requests().is_empty());
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let endpoint = Endpoint::play([], Step::Terminate);
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
fn wrong_usage_makes_the_status_64() {
    for flags in [&["--no-such-flag"][..], &["--interval"], &["stray"], &["--"], &["--", ""]] {
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
fn help_and_version_are_printed_despite_other_errors() {
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
fn check_prints_every_value_and_its_origin() {
    let endpoint = Endpoint::ok();
    let check = Taskbeat::new("check")
        .to(&endpoint.url())
        .set("--taskrunner-id", "tr-1")
        .without("TASKBEAT_GRACE")
        .without("TASKBEAT_HOSTNAME");
    let finished = with_file(check, "stop-signal = 'INT'\n").script("echo started").finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let text = finished.text();
    let row = |key: &str| {
        let mut rows = text.lines().map(|line| line.split_whitespace());
        let row = rows.find(|row| row.clone().next() == Some(key));
        row.unwrap_or_else(|| panic!("no {key}: {text}")).skip(1).collect::<Vec<_>>().join(" ")
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
fn check_refuses_the_same_values_as_run() {
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
    let online = "\naccess key          AKID…MPLE, expires never\n";
    assert!(text.contains(online), "{text}");
    assert!(!text.contains("AKIDEXAMPLE"), "{text}");
    assert!(endpoint.requests().is_empty());
}

#[test]
fn check_online_prints_foreign_text_on_one_line_without_control_characters() {
    let check =
        Taskbeat::new("check").without("AWS_ACCESS_KEY_ID").without("AWS_SECRET_ACCESS_KEY");
    let config = check.home().join("config");
    let credentials = json!({
        "Version": 1,
        // Of the control characters, headers have only these.
        "AccessKeyId": "A\u{9b}\t\tMIDDLE\t\tZ\u{9b}",
        "SecretAccessKey": "a-secret",
    });
    fs::write(check.home().join("credentials"), credentials.to_string()).unwrap();
    let profile = "[default]\ncredential_process = cat credentials\n";
    fs::write(&config, profile).unwrap();
    let finished = check.env("AWS_CONFIG_FILE", config).flag("--online").finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let shown = finished.text();
    let words = "\naccess key          A … Z, expires never\n";
    assert!(shown.contains(words), "{shown}");
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

/// The exit status and the output of `once` after this answer.
fn once(play: Step) -> (i32, String) {
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
    let (status, text) = once(Step::Ok);
    assert_eq!(status, 0);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer, json!({ "terminate": false }));

    let (status, text) = once(Step::Terminate);
    assert_eq!(status, 10);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer, json!({ "terminate": true }));
}

#[test]
fn once_makes_the_status_69_when_there_is_no_answer() {
    let portal = Step::Respond(crate::harness::Response::bare(200, "<html>"));
    for play in
        [Step::fault(), Step::throttle(), Step::Hang, Step::ResetWithin, Step::body("{}"), portal]
    {
        assert_eq!(once(play), (69, String::new()));
    }
    let closed = Endpoint::closed();
    let finished = Taskbeat::new("once").to(&closed.url()).finish();
    assert_eq!(finished.status, 69, "{finished:?}");
}

#[test]
fn once_makes_the_status_77_when_it_is_rejected() {
    for play in [
        Step::deny(),
        Step::error(400, "ExpiredTokenException", "It expired"),
        Step::error(403, "InvalidSignatureException", "It does not match"),
        Step::error(400, "InvalidRequestException", "Invalid"),
    ] {
        assert_eq!(once(play), (77, String::new()));
    }
}

#[test]
fn a_stop_ends_the_first_read_of_a_file_that_hangs() {
    let endpoint = Endpoint::ok();
    // An open and empty pipe of the test: reading it hangs.
    let (reader, _writer) = std::io::pipe().unwrap();
    let pipe = format!("/proc/{}/fd/{}", std::process::id(), reader.as_raw_fd());
    let program = Taskbeat::run(&endpoint).set("--config", pipe);
    let daemon = program.script("echo started").start();
    // It has caught its signals once it reads.
    eventually("it reads the file", || {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm"));
        tasks.flatten().any(|task| name(task).is_ok_and(|name| name.trim() == "settings"))
    });
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!((finished.status, finished.text().as_str()), (143, ""), "{finished:?}");
}
