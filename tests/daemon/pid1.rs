//! As PID 1, in a namespace of its own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::harness::{
    Daemon, Endpoint, Play, Taskbeat, children, eventually, pid_namespace, runner, signal, state_of,
};

/// The program as PID 1; `None` where that cannot be.
fn first(endpoint: &Endpoint) -> Option<Taskbeat> {
    Some(Taskbeat::run(endpoint).via(&pid_namespace()?))
}

/// PID 1, as it is known outside.
fn from_outside(daemon: &Daemon) -> i32 {
    daemon.wait_for_log("the runner is running");
    match children(daemon.pid())[..] {
        [first] => first,
        ref children => panic!("unshare has the children {children:?}"),
    }
}

#[test]
fn the_runners_status_passes_through_pid_1() {
    for (script, status) in [
        ("exit 0", 0),
        ("exit 42", 42),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
    ] {
        let endpoint = Endpoint::play([], Play::Hang);
        let Some(program) = first(&endpoint) else {
            return;
        };
        let finished = program.script(script).finish();
        assert_eq!(finished.status, status, "{finished:?}");
    }
}

#[test]
fn stops_from_inside_and_outside_are_heard_as_pid_1() {
    for name in ["TERM", "INT"] {
        let endpoint = Endpoint::ok();
        let Some(program) = first(&endpoint) else {
            return;
        };
        let inside = format!("trap 'exit 42' TERM; kill -{name} 1; nap ready & wait; exit 99");
        let finished = program.script(&inside).finish();
        assert_eq!(finished.status, 42, "{name} {finished:?}");
    }
    for sent in [Signal::TERM, Signal::INT] {
        let endpoint = Endpoint::ok();
        let Some(program) = first(&endpoint) else {
            return;
        };
        let daemon = program.script(runner::OBEDIENT).start();
        daemon.wait_for_output("ready");
        signal(from_outside(&daemon), sent);
        let finished = daemon.finish();
        assert_eq!(finished.status, 42, "{finished:?}");
    }
}

#[test]
fn signals_for_the_runner_are_forwarded_as_pid_1() {
    let endpoint = Endpoint::ok();
    let Some(program) = first(&endpoint) else {
        return;
    };
    // It has them sent from inside first.
    let script = "for name in QUIT USR1 USR2 WINCH; do trap \"echo got $name\" $name; done
        trap 'exit 42' TERM; (trap '' QUIT USR1 USR2 WINCH; nap ready) &
        (trap '' QUIT USR1 USR2 WINCH; read -r go < pipe; kill -USR2 1) &
        while :; do wait; done";
    let pipe = program.home().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let daemon = program.script(script).start();
    daemon.wait_for_output("ready");
    let first = from_outside(&daemon);
    for (sent, name) in [
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::WINCH, "WINCH"),
    ] {
        signal(first, sent);
        daemon.wait_for_output(&format!("got {name}"));
    }
    fs::write(&pipe, "go\n").unwrap();
    daemon.wait_for_output("got USR2");
    signal(first, Signal::TERM);
    assert_eq!(daemon.finish().status, 42);
}

/// A thousand orphans, most of which end after their parents.
const ORPHANS: &str = r"
made=0
while [ $made -lt 500 ]; do
    (sh -c : & setsid sh -c : & )
    made=$((made + 1))
done
nap ready & wait; exit 99";

#[test]
fn pid_1_reaps_a_thousand_orphans_while_the_runner_lives() {
    let endpoint = Endpoint::ok();
    let Some(program) = first(&endpoint) else {
        return;
    };
    let daemon = program.script(ORPHANS).start();
    daemon.wait_for_output("ready");
    let first = from_outside(&daemon);
    eventually("all of them are reaped", || children(first).len() == 1);
    assert_eq!(state_of(children(first)[0]), 'S');
    signal(first, Signal::TERM);
    assert_eq!(daemon.finish().status, 143);
}

#[test]
fn a_credential_process_works_while_orphans_are_reaped() {
    let endpoint = Endpoint::ok();
    let Some(program) = first(&endpoint) else {
        return;
    };
    credentials_come_while_orphans_end(&endpoint, program);
}

#[test]
fn a_credential_process_works_while_orphans_are_reaped_by_a_subreaper() {
    let endpoint = Endpoint::ok();
    credentials_come_while_orphans_end(&endpoint, Taskbeat::run(&endpoint));
}

fn credentials_come_while_orphans_end(endpoint: &Endpoint, program: Taskbeat) {
    let home = program.home().to_owned();
    let command = home.join("credentials");
    // Each key is another one, and too short-lived to be used twice.
    let script = r#"#!/bin/sh
number=$(($(cat "$HOME/number") + 1)); echo $number > "$HOME/number"
expires=$(date -u -d '+1 second' +%Y-%m-%dT%H:%M:%SZ)
echo '{"Version": 1, "AccessKeyId": "AKID'$number'", "SecretAccessKey": "secret", "Expiration": "'$expires'"}'
"#;
    fs::write(&command, script).unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(home.join("number"), "0\n").unwrap();
    let config = home.join("config");
    let command = command.display();
    fs::write(
        &config,
        format!("[default]\ncredential_process = {command}\n"),
    )
    .unwrap();
    let orphans = "while ! [ -e enough ]; do (sh -c : & setsid sh -c : & ); done; exit 42";
    let daemon = program
        .without("AWS_ACCESS_KEY_ID")
        .without("AWS_SECRET_ACCESS_KEY")
        .env("AWS_CONFIG_FILE", config)
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        .set("--interval", "50ms")
        .script(orphans)
        .start();
    let requests = endpoint.wait_for(40);
    fs::write(home.join("enough"), "").unwrap();
    let finished = daemon.finish();
    assert_eq!(finished.status, 42, "{finished:?}");
    let key = |authorization: &str| {
        let key = authorization.split("Credential=").nth(1).unwrap();
        key.split('/').next().unwrap().to_owned()
    };
    let keys: BTreeSet<String> = requests
        .iter()
        .map(|request| key(request.header("authorization")))
        .collect();
    assert!(keys.iter().all(|key| key.starts_with("AKID")), "{keys:?}");
    assert!(keys.len() > 20, "{keys:?}");
    assert!(
        !finished.stderr.contains("heartbeat failed"),
        "{finished:?}"
    );
}
