//! What is logged, and how.

use serde_json::Value;

use crate::harness::{Endpoint, Play, Taskbeat, runner};

#[test]
fn with_the_format_json_every_line_is_an_object() {
    let message = "It is \"quoted\",\nand \u{1b}[31mcoloured";
    let deny = Play::error(400, "AccessDeniedException", message);
    let endpoint = Endpoint::play([deny, Play::throttle(), Play::Ok], Play::Terminate);
    let finished = Taskbeat::run(&endpoint)
        .set("--log-format", "json")
        .flag("-vv")
        .script(runner::PLAIN)
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let lines: Vec<Value> = finished
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for line in &lines {
        for key in ["timestamp", "level", "message"] {
            assert!(line[key].is_string(), "{line}");
        }
    }
    let count = |word: &str| {
        let said = |line: &&Value| {
            line["message"]
                .as_str()
                .is_some_and(|said| said.contains(word))
        };
        lines.iter().filter(said).count()
    };
    assert_eq!(count("the runner is running"), 1);
    assert_eq!(count("heartbeat failed"), 2);
    assert_eq!(count("heartbeat acknowledged"), 2);
}

#[test]
fn a_status_is_said_where_it_is_known() {
    for attached in [false, true] {
        let endpoint = Endpoint::play([Play::Ok], Play::Terminate);
        let program = Taskbeat::run(&endpoint);
        let finished = if attached {
            let words = ["sh", "-c", r#"sleep 1000 & exec "$@" --pid $!"#, "sh"];
            program.via(&words).finish()
        } else {
            program.script(runner::PLAIN).finish()
        };
        assert_eq!(finished.status, 0, "{finished:?}");
        let said = finished.stderr.lines();
        let said = said.filter_map(|line| line.split_once("the runner exited"));
        let said: Vec<_> = said.map(|(_, status)| status.trim()).collect();
        assert_eq!(said, [if attached { "" } else { "status=143" }]);
    }
}

#[test]
fn what_the_service_says_takes_one_line_and_no_control_over_the_terminal() {
    let message = "first\nsecond \u{1b}[2J\r\u{7}third";
    let endpoint = Endpoint::play([], Play::error(400, "AccessDeniedException", message));
    let daemon = Taskbeat::run(&endpoint).start();
    let line = daemon.wait_for_log("heartbeat failed");
    assert!(line.contains("AccessDeniedException"), "{line}");
    endpoint.wait_for(2);
    let log = daemon.log();
    assert!(!log.contains('\u{1b}'), "{log}");
    assert!(log.lines().all(|line| line.starts_with("20")), "{log}");
}

#[test]
fn of_what_the_service_says_no_more_is_shown_than_people_read() {
    let message = "ä".repeat(20_000);
    let endpoint = Endpoint::play([], Play::error(400, "AccessDeniedException", &message));
    let daemon = Taskbeat::run(&endpoint).start();
    let line = daemon.wait_for_log("heartbeat failed");
    assert!(line.contains("AccessDeniedException: ää"), "{line}");
    let shown = line.chars().filter(|letter| *letter == 'ä').count();
    assert!((900..1_000).contains(&shown), "{shown}");
}

#[test]
fn the_level_decides_what_is_logged() {
    for (level, lines) in [("off", 0), ("error", 0), ("info", 4)] {
        let endpoint = Endpoint::play([], Play::Terminate);
        let finished = Taskbeat::run(&endpoint).set("--log", level).finish();
        assert_eq!(finished.status, 0);
        let count = finished.stderr.lines().count();
        assert!(
            if lines == 0 { count == 0 } else { count > 2 },
            "{finished:?}"
        );
    }
}

#[test]
fn a_log_that_nobody_reads_stops_neither_the_runner_nor_the_heartbeats() {
    let endpoint = Endpoint::ok();
    // A pipe that is full from the start: the shell holds its other end and never reads it.
    let full = "exec 3<>pipe; dd if=/dev/zero of=pipe bs=4096 oflag=nonblock count=64 2>dd; \
                exec \"$@\" 2>pipe";
    let daemon = Taskbeat::run(&endpoint);
    let made = std::process::Command::new("mkfifo")
        .arg(daemon.home().join("pipe"))
        .status()
        .unwrap();
    assert!(made.success());
    let daemon = daemon
        .via(&["sh", "-c", full, "sh"])
        .set("--interval", "20ms")
        .flag("-vv")
        .script("exec 3>&-; trap 'echo stopped; exit 42' TERM; nap ready & wait; exit 99")
        .start();
    daemon.wait_for_pid("ready");
    endpoint.wait_for(50);
    endpoint.now_play(Play::Terminate);
    let finished = daemon.finish();
    assert_eq!(finished.status, 0);
    assert_eq!(finished.text().lines().last(), Some("stopped"));
}
