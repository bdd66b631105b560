//! `credential_process`: commands of profiles that print credentials.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::{FEW, key_of, keys, once_fails, survives_with, without_keys};
use crate::harness::{
    Daemon, Endpoint, Response, Server, Step, Taskbeat, children, descriptors, eventually,
    in_parallel, is_alive, marked, replace_file, rounds, runner, signal, wait_for_end,
};
/// Makes a shell script the `credential_process` of the default profile.
fn with_process(program: Taskbeat, script: &str) -> Taskbeat {
    let (file, path) = (program.home().join("config"), program.home().join("process"));
    replace_file(&path, script);
    replace_file(&file, &format!("[default]\ncredential_process = exec sh {}\n", path.display()));
    without_keys(program).env("AWS_CONFIG_FILE", file)
}

const GOOD: &str = r#"echo '{"Version":1,"AccessKeyId":"AKIDPROCESS","SecretAccessKey":"a-secret",
    "SessionToken":"a-token","Expiration":"2100-01-01T00:00:00Z"}'"#;

/// The message of `once` with this script, which fails.
fn fails(script: &str) -> String {
    once_fails(with_process(Taskbeat::new("once"), script), 69)
}

#[test]
fn good_credentials() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::new("once").to(&endpoint.url());
    let finished = with_process(program, &format!("cat >&2; {GOOD}")).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let request = endpoint.requests().pop().unwrap();
    assert_eq!(key_of(&request), "AKIDPROCESS");
    assert_eq!(request.header("x-amz-security-token"), "a-token");
}

#[test]
fn credentials_that_have_expired() {
    let check = Taskbeat::new("check").flag("--online");
    let message = once_fails(with_process(check, &GOOD.replace("2100", "2001")), 69);
    let expired = "profile default expired at 2001-01-01T00:00:00Z";
    assert_eq!(message, format!("taskbeat: the credentials from {expired}"));
}

#[test]
fn variables_that_are_meant_for_taskbeat_alone() {
    let endpoint = Endpoint::ok();
    let script = format!("[ -z \"$NOTIFY_SOCKET$LISTEN_FDS\" ] || exit 1; {GOOD}");
    let program = Taskbeat::new("once").to(&endpoint.url());
    let program = program.env("NOTIFY_SOCKET", "/nonexistent").env("LISTEN_FDS", "1");
    let finished = with_process(program, &script).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
}

#[test]
fn a_parent_that_ignores_sigchld() {
    let endpoint = Endpoint::ok();
    for (subcommand, flag) in [("once", "-v"), ("check", "--online")] {
        let program = Taskbeat::new(subcommand).flag(flag).to(&endpoint.url());
        let program = program.via(&["env", "--ignore-signal=CHLD"]);
        let finished = with_process(program, GOOD).finish();
        assert_eq!(finished.status, 0, "{finished:?}");
    }
}

#[test]
fn credentials_for_a_role() {
    let sts = Server::start(|request| {
        assert_eq!(key_of(request), "AKIDPROCESS");
        let role = super::credentials::of_role("AKIDROLE");
        Response::bare(200, &role.replace("RoleWithWebIdentity", "Role"))
    });
    let endpoint = Endpoint::ok();
    let program = Taskbeat::new("once").to(&endpoint.url());
    let program = with_process(program, GOOD).env("AWS_ENDPOINT_URL_STS", sts.url());
    let file = program.home().join("config");
    let text = fs::read_to_string(&file).unwrap();
    let role =
        "[profile etl]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = default\n";
    replace_file(&file, &(text + role));
    let finished = program.set("--profile", "etl").finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(key_of(&endpoint.requests()[0]), "AKIDROLE");
}

#[test]
fn keys_in_the_credentials_file_come_first() {
    let endpoint = Endpoint::ok();
    for (variable, used) in
        [("AWS_SHARED_CREDENTIALS_FILE", "AKIDKEYS"), ("AWS_CONFIG_FILE", "AKIDPROCESS")]
    {
        let program = with_process(Taskbeat::new("once").to(&endpoint.url()), GOOD);
        let process = fs::read_to_string(program.home().join("config")).unwrap();
        let file = program.home().join("keys");
        let keys = keys("default", "AKIDKEYS");
        let is_config = variable == "AWS_CONFIG_FILE";
        replace_file(&file, &if is_config { process + &keys } else { keys });
        let finished = program.env(variable, file).finish();
        assert_eq!(finished.status, 0, "{finished:?}");
        let request = endpoint.requests().pop().unwrap();
        assert_eq!(key_of(&request), used);
        if !is_config {
            assert_eq!(request.header("x-amz-security-token"), "token-of-AKIDKEYS");
        }
    }
}

#[test]
fn failures_are_named_and_output_is_not_repeated() {
    let failed = "taskbeat: no credentials from profile default: \
                  credential_process of profile default";
    for (script, words) in [
        ("echo token=a-secret >&2; exit 3", "failed (exit status: 3)"),
        ("echo a-secret; kill -9 $$", "failed (signal: 9 (SIGKILL))"),
        ("echo a-secret", "printed no credentials of version 1"),
        (
            r#"echo '{"Version":2,"AccessKeyId":"a-secret","SecretAccessKey":"a-secret"}'"#,
            "printed no credentials of version 1",
        ),
        (
            r#"echo '{"Version":1,"SecretAccessKey":"a-secret"}'"#,
            "printed no credentials of version 1",
        ),
        ("yes a-secret", "printed no credentials of version 1"),
    ] {
        assert_eq!(fails(script), format!("{failed} {words}"));
    }
}

/// A daemon whose `credential_process` is `script`, in which `MARK` stands for text that is in the
/// environment of all that it starts.
fn daemon_with(endpoint: &Endpoint, script: &str, mark: &str) -> Daemon {
    let program = Taskbeat::run(endpoint).flag("-v").script(runner::OBEDIENT);
    let script = format!("export {mark}\n{script}");
    with_process(program, &script).start()
}

/// Text for the environment of processes that this test starts.
fn mark(name: &str) -> String {
    format!("{name}=1{}", std::process::id())
}

#[test]
fn one_that_hangs_is_killed_with_its_process_group() {
    let endpoint = Endpoint::ok();
    let mark = mark("HANGS");
    let daemon = daemon_with(&endpoint, "sleep 1000 & wait", &mark);
    let leader = daemon.wait_for_pid("ready");
    let line = daemon.wait_for_log("WARN heartbeat failed");
    let words = ": timed out after 1s running credential_process of profile default";
    assert!(line.ends_with(words), "{line}");
    daemon.wait_for_lines("failed again", FEW);
    let open = descriptors(daemon.pid());
    daemon.wait_for_lines("failed again", 2 * FEW);
    // The two processes of the newest attempt.
    assert!(marked(&mark).len() <= 2, "{:?}", marked(&mark));
    assert!(children(daemon.pid()).len() <= 4);
    // For a moment, the newest attempt and the one before it have some open.
    eventually("descriptors are closed", || descriptors(daemon.pid()) <= open + 6);
    assert!(is_alive(leader));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 42);
    eventually("what it started ends", || marked(&mark).is_empty());
}

#[test]
fn stops_around_its_start_leave_nothing() {
    let endpoint = Endpoint::ok();
    let mark = mark("AROUND");
    let moment = Mutex::new(Duration::from_millis(30));
    let stops = rounds(40, 400);
    let before = AtomicUsize::new(0);
    in_parallel(0..stops, |_| {
        let script = format!(": >$0.started; export {mark}; sleep 1000 & wait");
        let program = Taskbeat::run(&endpoint).script(runner::OBEDIENT);
        let file = program.home().join("process.started");
        let daemon = with_process(program, &script).start();
        daemon.wait_for_pid("ready");
        // The moment of the stop is the input of this test, not a synchronisation.
        let mean = *moment.lock().unwrap();
        thread::sleep(mean.mul_f64(2.0 * fastrand::f64()));
        let has_started = fs::exists(file).unwrap();
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.finish().status, 42);
        // Home in on the start, however busy the machine is.
        let factor = if has_started { 0.9 } else { 1.1 };
        let mut mean = moment.lock().unwrap();
        *mean = mean.mul_f64(factor);
        before.fetch_add(usize::from(!has_started), Ordering::Relaxed);
    });
    println!("{stops} stops, {} of them before the start", before.into_inner());
    eventually("what it started ends", || marked(&mark).is_empty());
}

#[test]
fn one_that_is_mended() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint).flag("-v").script(runner::OBEDIENT);
    let program = with_process(program, "exec sleep 1000");
    let script = program.home().join("process");
    let daemon = program.start();
    daemon.wait_for_log("WARN heartbeat failed");
    replace_file(&script, GOOD);
    survives_with(&endpoint, daemon, 1).line();
}

#[test]
fn an_agent_that_it_starts_is_left_alone() {
    // As gpg-agent does it: a session of its own, which outlives the command.
    let endpoint = Endpoint::play([Step::fault(), Step::Ok, Step::deny(), Step::Ok], Step::Ok);
    let mark = mark("AGENT");
    let agent = "setsid -f sh -c 'exec sleep 1000' >/dev/null 2>&1 </dev/null";
    let start = format!("[ -e $0.started ] || {agent}; : >$0.started; {GOOD}");
    let daemon = daemon_with(&endpoint, &start, &mark);
    daemon.wait_for_pid("ready");
    endpoint.wait_for(10);
    let agents = marked(&mark);
    let [agent] = agents[..] else {
        panic!("{agents:?}");
    };
    endpoint.switch_to(Step::Terminate);
    assert_eq!(daemon.finish().status, 0);
    assert!(is_alive(agent), "it was killed");
    signal(agent, Signal::KILL);
    wait_for_end(agent);
}

#[test]
fn commands_that_end_are_reaped() {
    // A client that keeps failing is replaced, and the new one runs the command again.
    let endpoint = Endpoint::play([], Step::deny());
    let daemon = daemon_with(&endpoint, GOOD, &mark("MANY"));
    endpoint.wait_for(50);
    let log = daemon.log();
    let denied = log.matches("AccessDeniedException").count();
    assert_eq!(denied, log.matches("heartbeat failed").count(), "{log}");
    assert!(children(daemon.pid()).len() <= 3);
}

#[test]
fn a_runner_that_is_older_than_taskbeat_is_left_alone() {
    // The shell becomes taskbeat, and so its child a child of taskbeat, in the same process group.
    let endpoint = Endpoint::play([Step::fault(), Step::Ok, Step::deny()], Step::Ok);
    let shell = "sleep 120 & echo runner $!; exec \"$@\" --pid $!";
    let daemon =
        Taskbeat::run(&endpoint).via(&["sh", "-c", shell, "sh"]).set("--interval", "50ms").start();
    let runner = daemon.wait_for_pid("runner");
    endpoint.wait_for(10);
    assert!(children(daemon.pid()).contains(&runner));
    assert!(is_alive(runner), "it was killed");
    endpoint.switch_to(Step::Terminate);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(!is_alive(runner));
}
