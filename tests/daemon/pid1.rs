//! taskbeat as PID 1 of a container, here of a PID namespace.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{
    Daemon, Endpoint, Request, Step, Taskbeat, children, eventually, pid_namespace, rounds, runner,
    signal, state_of, text,
};

/// taskbeat as PID 1; `None` if namespaces are not allowed here.
fn pid_1(endpoint: &Endpoint) -> Option<Taskbeat> {
    Some(Taskbeat::run(endpoint).via(&pid_namespace()?))
}

/// The id of PID 1 outside of its namespace. `daemon` is `unshare`.
fn outer_pid(daemon: &Daemon) -> i32 {
    daemon.wait_for_log(text::RUNNER_STARTED);
    match children(daemon.pid())[..] {
        [pid_1] => pid_1,
        ref children => panic!("unshare has the children {children:?}"),
    }
}

#[test]
fn pid_1_passes_the_runners_status_on() {
    for (script, status) in [
        ("exit 0", 0),
        ("exit 42", 42),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
    ] {
        let endpoint = Endpoint::play([], Step::Hang);
        let Some(program) = pid_1(&endpoint) else {
            return;
        };
        let finished = program.script(script).finish();
        assert_eq!(finished.status, status, "{finished:?}");
    }
}

#[test]
fn pid_1_obeys_stops_from_inside_and_outside_the_namespace() {
    for name in ["TERM", "INT"] {
        let endpoint = Endpoint::ok();
        let Some(program) = pid_1(&endpoint) else {
            return;
        };
        let inside = format!("trap 'exit 42' TERM; kill -{name} 1; while :; do sleep 0.1; done");
        let finished = program.script(&inside).finish();
        assert_eq!(finished.status, 42, "{name} {finished:?}");
    }
    for sent in [Signal::TERM, Signal::INT] {
        let endpoint = Endpoint::ok();
        let Some(program) = pid_1(&endpoint) else {
            return;
        };
        let daemon = program.script(runner::OBEDIENT).start();
        daemon.wait_for_output("ready");
        signal(outer_pid(&daemon), sent);
        let finished = daemon.finish();
        assert_eq!(finished.status, 42, "{finished:?}");
    }
}

#[test]
fn pid_1_forwards_signals_to_the_runner() {
    let endpoint = Endpoint::ok();
    let Some(program) = pid_1(&endpoint) else {
        return;
    };
    // SIGUSR2 is sent from inside, by a child of the runner that waits for the test.
    let script = "for name in QUIT USR1 USR2 WINCH; do trap \"echo got $name\" $name; done
        trap 'exit 42' TERM; (trap '' QUIT USR1 USR2 WINCH; nap ready) &
        (trap '' QUIT USR1 USR2 WINCH; read -r go < pipe; kill -USR2 1) &
        while :; do wait; done";
    let pipe = program.home().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let daemon = program.script(script).start();
    daemon.wait_for_output("ready");
    let pid_1 = outer_pid(&daemon);
    for (sent, name) in [(Signal::QUIT, "QUIT"), (Signal::USR1, "USR1"), (Signal::WINCH, "WINCH")] {
        signal(pid_1, sent);
        daemon.wait_for_output(&format!("got {name}"));
    }
    fs::write(&pipe, "go\n").unwrap();
    daemon.wait_for_output("got USR2");
    signal(pid_1, Signal::TERM);
    assert_eq!(daemon.finish().status, 42);
}

/// Leaves two orphans in each of its rounds, most of which end after their parents.
const ORPHANS: &str = r"
made=0
while [ $made -lt $ROUNDS ]; do
    (sh -c : & setsid sh -c : & )
    made=$((made + 1))
done
nap ready & wait; exit 99";

#[test]
fn pid_1_reaps_orphans_while_the_runner_runs() {
    let endpoint = Endpoint::ok();
    let Some(program) = pid_1(&endpoint) else {
        return;
    };
    let rounds = rounds(100, 500).to_string();
    let daemon = program.env("ROUNDS", rounds).script(ORPHANS).start();
    daemon.wait_for_output("ready");
    let pid_1 = outer_pid(&daemon);
    eventually(
        "the leader is the only child",
        || matches!(children(pid_1)[..], [leader] if state_of(leader) == 'S'),
    );
    signal(pid_1, Signal::TERM);
    assert_eq!(daemon.finish().status, 143);
}

#[test]
fn pid_1_reaps_orphans_but_not_a_credential_process() {
    let endpoint = Endpoint::ok();
    let Some(program) = pid_1(&endpoint) else {
        return;
    };
    reaps_no_credential_process(&endpoint, program);
}

#[test]
fn a_subreaper_reaps_orphans_but_not_a_credential_process() {
    let endpoint = Endpoint::ok();
    reaps_no_credential_process(&endpoint, Taskbeat::run(&endpoint));
}

/// Orphans end all the time while each heartbeat runs the `credential_process`.
fn reaps_no_credential_process(endpoint: &Endpoint, program: Taskbeat) {
    let heartbeats = rounds(15, 40);
    let home = program.home().to_owned();
    let command = home.join("credentials");
    // A new key each time, which expires too soon to be used twice.
    let script = r#"number=$(($(cat "$HOME/number") + 1)); echo $number > "$HOME/number"
expires=$(date -u -d '+1 second' +%Y-%m-%dT%H:%M:%SZ)
echo '{"Version": 1, "AccessKeyId": "AKID'$number'", "SecretAccessKey": "secret",
    "Expiration": "'$expires'"}'
"#;
    fs::write(&command, script).unwrap();
    fs::write(home.join("number"), "0\n").unwrap();
    let config = home.join("config");
    let command = command.display();
    fs::write(&config, format!("[default]\ncredential_process = sh {command}\n")).unwrap();
    let orphans = "while ! [ -e enough ]; do (sh -c : & setsid sh -c : & ); done; exit 42";
    let daemon = program
        .without("AWS_ACCESS_KEY_ID")
        .without("AWS_SECRET_ACCESS_KEY")
        .env("AWS_CONFIG_FILE", config)
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        .set("--interval", "50ms")
        .script(orphans)
        .start();
    let requests = endpoint.wait_for(heartbeats);
    fs::write(home.join("enough"), "").unwrap();
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    let key = |request: &Request| {
        let authorization = request.header("authorization");
        let key = authorization.split("Credential=").nth(1).unwrap();
        key.split('/').next().unwrap().to_owned()
    };
    let keys: BTreeSet<String> = requests.iter().map(key).collect();
    assert!(keys.iter().all(|key| key.starts_with("AKID")), "{keys:?}");
    assert!(keys.len() > heartbeats / 2, "{keys:?}");
    // On a busy machine, the command may take longer than the second that a heartbeat has here.
    let failed = |line: &str| line.contains(text::FAILED) && !line.contains("timed out");
    assert!(!finished.stderr.lines().any(failed), "{finished:?}");
}
