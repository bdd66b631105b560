//! What other programs and users write, changed at random: responses, requests to the endpoint,
//! profile files, replies to `status`, configuration files, pid files and scripts.
//!
//! The changes are blind; the targets of `tests/fuzz` follow the coverage. Both begin with the
//! files of `tests/daemon/corpus`. An input that has once broken something becomes a file there.
//! `TASKBEAT_FUZZ` sets the number of changes for each test, and `TASKBEAT_SEED` draws others.

#[path = "../fuzz/message.rs"]
mod message;

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;

use self::message::{message, request};
use crate::faults::{self, without_keys};
use crate::harness::{
    Endpoint, Finished, Step, Taskbeat, in_parallel, is_alive, number, rounds, runner, seed,
};
use crate::peers::answered;

/// What the parsers of these inputs look for.
const TOKENS: [&[u8]; 18] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\x1b[2J",
    b"\"",
    b"{",
    b"[[[[",
    b"}",
    b": ",
    b"=",
    b",",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"null",
];

/// The inputs of a test: each file as it is, and then changed ones.
fn inputs(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/corpus").join(name);
    let files = fs::read_dir(folder).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap());
    let mut inputs: Vec<_> = files.collect();
    inputs.sort();
    let mut rng = Rng::with_seed(seed());
    let corpus = inputs.clone();
    let count = number("TASKBEAT_FUZZ").unwrap_or(rounds(40, 400));
    inputs.extend((0..count).map(|_| changed(&corpus, &mut rng)));
    inputs
}

fn changed(corpus: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut input = rng.choice(corpus).unwrap().clone();
    for _ in 0..rng.u32(1..5) {
        let (one, other) = (rng.usize(..=input.len()), rng.usize(..=input.len()));
        let (from, to) = (one.min(other), one.max(other));
        match rng.u8(..7) {
            0 => drop(input.drain(from..to.min(from + 20))),
            1 => input.extend_from_within(from..to),
            2 => input.truncate(to.max(10)),
            3 if from < input.len() => input[from] = rng.u8(..),
            4 => {
                let tail = rng.choice(corpus).unwrap();
                let start = rng.usize(..=tail.len());
                input.splice(from.., tail[start..].iter().copied());
            }
            _ => {
                let token = rng.choice(TOKENS).unwrap();
                input.splice(from..from, token.iter().copied());
            }
        }
    }
    input
}

fn check(finished: &Finished, inputs: &[Vec<u8>]) {
    let told = |words| finished.stderr.contains(words) || finished.text().contains(words);
    let panicked = told("panicked") || told("internal error");
    let tried = || inputs.iter().map(|input| input.escape_ascii().to_string()).collect::<Vec<_>>();
    assert!(!panicked, "{finished:?}\n{:#?}", tried());
}

#[test]
fn no_response_ends_the_daemon() {
    let inputs = inputs("responses");
    let script: Vec<_> = inputs.iter().map(|input| Step::Raw(message(input))).collect();
    let count = script.len();
    let endpoint = Endpoint::play(script, Step::Ok);
    let daemon = Taskbeat::run(&endpoint)
        .set("--interval", "20ms")
        .flag("-v")
        .script(runner::OBEDIENT)
        .start();
    let runner = daemon.wait_for_pid("ready");
    endpoint.wait_for(count + 2);
    assert!(is_alive(runner));
    endpoint.switch_to(Step::Terminate);
    let finished = daemon.finish();
    check(&finished, &inputs);
    assert_eq!(finished.status, 0, "{finished:?}");
}

#[test]
fn no_request_ends_the_endpoint() {
    let inputs = inputs("requests");
    let daemon = Taskbeat::new("rehearse")
        .set("--script", "ok,terminate")
        .set("--listen", "127.0.0.1:0")
        .set("--log", "info")
        .set("--interval", "15m")
        .script(runner::OBEDIENT)
        .start();
    let line = daemon.wait_for_log("endpoint http://");
    let address = line.split("http://").nth(1).unwrap().split_whitespace().next().unwrap();
    in_parallel(&inputs, |input| {
        let text = request(input);
        let mut connection = TcpStream::connect(address).unwrap();
        connection.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        // The endpoint may have refused the first half of it.
        let _ = connection.write_all(text.as_bytes());
        let _ = connection.read(&mut [0; 4096]);
    });
    let once = Taskbeat::new("once").to(&format!("http://{address}")).finish();
    assert_eq!(once.status, 0, "{once:?}");
    daemon.signal(Signal::TERM);
    check(&daemon.finish(), &inputs);
}

#[test]
fn no_profile_ends_the_daemon() {
    let inputs = inputs("profiles");
    let endpoint = Endpoint::ok();
    // Without -v, because a log that is not read in time loses lines.
    let program = without_keys(Taskbeat::run(&endpoint).set("--interval", "20ms"));
    let folder = program.home().join(".aws");
    fs::create_dir(&folder).unwrap();
    let daemon = program.script(runner::OBEDIENT).start();
    let runner = daemon.wait_for_pid("ready");
    for (number, input) in inputs.iter().enumerate() {
        let file = folder.join(["config", "credentials"][number % 2]);
        fs::write(file, input).unwrap();
        // Settings are read again, and so are profiles.
        daemon.signal(Signal::HUP);
        daemon.wait_for_lines("settings reloaded", number + 1);
    }
    assert!(is_alive(runner));
    fs::write(folder.join("config"), "").unwrap();
    fs::write(folder.join("credentials"), faults::keys("default", "AKID")).unwrap();
    daemon.signal(Signal::HUP);
    endpoint.wait_for_more(2);
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    check(&finished, &inputs);
    assert_eq!(finished.status, 42, "{finished:?}");
}

#[test]
fn no_reply_breaks_status() {
    in_parallel(inputs("statuses"), |input| {
        let sent = input.clone();
        let finished = answered(move |client| {
            let _ = client.write_all(&sent);
        });
        check(&finished, std::slice::from_ref(&input));
        assert!([0, 69].contains(&finished.status), "{finished:?}");
        let shown = finished.text() + &finished.stderr;
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!shown.contains(control), "{shown:?} of {}", input.escape_ascii());
    });
}

/// Each input makes a program exit with one of these statuses, after messages that are printable.
fn is_handled(name: &str, statuses: [i32; 2], program: impl Fn(&[u8]) -> Taskbeat + Sync) {
    in_parallel(inputs(name), |input| {
        let finished = program(&input).finish();
        check(&finished, std::slice::from_ref(&input));
        let shown = finished.text() + &finished.stderr;
        let control = |c: char| c.is_control() && c != '\n';
        // clap repeats an argument as it is.
        let printable = finished.status == 64 || !shown.contains(control);
        let holds = statuses.contains(&finished.status) && printable;
        assert!(holds, "{finished:?} of {}", input.escape_ascii());
    });
}

/// Sets `option` to a file that holds `input`.
fn with_file(program: Taskbeat, option: &str, input: &[u8]) -> Taskbeat {
    let file = program.home().join("input");
    fs::write(&file, input).unwrap();
    program.set(option, file)
}

#[test]
fn no_configuration_breaks_check() {
    is_handled("configurations", [0, 78], |input| {
        let program = ["TASKRUNNER_ID", "HOSTNAME", "INTERVAL", "JITTER", "GRACE"]
            .iter()
            .fold(Taskbeat::new("check"), |program, key| {
                program.without(format!("TASKBEAT_{key}"))
            });
        with_file(program, "--config", input)
    });
}

/// `check` looks at the process that the file names, and sends it nothing.
#[test]
fn no_pid_file_breaks_check() {
    is_handled("pid_files", [0, 78], |input| {
        with_file(Taskbeat::new("check"), "--pid-file", input)
    });
}

#[test]
fn no_script_breaks_rehearse() {
    is_handled("scripts", [64, 78], |input| {
        let line = input.strip_suffix(b"\n").unwrap_or(input);
        // An argument ends at the first of these bytes.
        let script: Vec<_> = line.iter().copied().filter(|byte| *byte != 0).collect();
        let script = OsString::from_vec([b"--script=".to_vec(), script].concat());
        // Another error, so that a good script is not played.
        Taskbeat::new("rehearse").flag(script).set("--interval", "0").script(runner::OBEDIENT)
    });
}
