//! The placeholders of the identity, against a scripted EC2 metadata service.

use std::fs;

use serde_json::json;

use crate::harness::{Endpoint, Metadata, Response, Server, Step, Taskbeat, runner};

const INSTANCE_ID: &str = "i-0123456789abcdef0";
const LOCAL: &str = "ip-10-0-0-1.ec2.internal";

/// An instance without a public name.
fn put_names(metadata: &Metadata) {
    metadata.put_text("/latest/meta-data/instance-id", INSTANCE_ID);
    metadata.put_text("/latest/meta-data/local-hostname", LOCAL);
}

/// The program on an instance, and the id of its task runner there.
fn on_an_instance(program: Taskbeat, url: &str) -> (Taskbeat, String) {
    let id = program.id();
    let program = program
        .without("AWS_EC2_METADATA_DISABLED")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        .set("--taskrunner-id", format!("{id}@{{instance-id}}"));
    (program, format!("{id}@{INSTANCE_ID}"))
}

#[test]
fn each_placeholder_is_asked_for_once() {
    let endpoint = Endpoint::ok();
    let metadata = Metadata::start();
    put_names(&metadata);
    let (program, id) = on_an_instance(Taskbeat::run(&endpoint), &metadata.url());
    let daemon = program
        .set("--worker-group", "{instance-id}/{local-hostname}")
        .set("--hostname", "{local-hostname}")
        .script(runner::OBEDIENT)
        .start();
    endpoint.wait_for_more(4);
    for request in endpoint.requests() {
        let worker_group = format!("{INSTANCE_ID}/{LOCAL}");
        let body = json!({ "taskrunnerId": id, "workerGroup": worker_group, "hostname": LOCAL });
        assert_eq!(request.body, body);
    }
    let asked = metadata.requests();
    for name in ["instance-id", "local-hostname"] {
        let asks = |line: &str| line.contains(&format!("/meta-data/{name} "));
        let count = asked.iter().filter(|request| asks(&request.line)).count();
        assert_eq!(count, 1, "{name}");
    }
    daemon.wait_for_log(&format!("names taskrunner-id {id}, worker-group"));
}

#[test]
fn a_command_has_the_id_of_the_heartbeats_and_may_ask_for_the_status() {
    let endpoint = Endpoint::play([Step::Ok], Step::Terminate);
    let metadata = Metadata::start();
    put_names(&metadata);
    let (program, id) = on_an_instance(Taskbeat::run(&endpoint), &metadata.url());
    let home = program.home().to_owned();
    let command = format!(
        "echo $TASKBEAT_TASKRUNNER_ID >id; {} status >status",
        env!("CARGO_BIN_EXE_taskbeat")
    );
    let daemon = program.set("--on-terminate", command).script(runner::OBEDIENT).start();
    daemon.wait_for_log("on-terminate succeeded");
    assert_eq!(fs::read_to_string(home.join("id")).unwrap(), format!("{id}\n"));
    let status = fs::read_to_string(home.join("status")).unwrap();
    assert!(status.starts_with("state         running on-terminate"), "{status}");
}

#[test]
fn without_a_placeholder_nothing_is_asked() {
    let endpoint = Endpoint::ok();
    let metadata = Metadata::start();
    let _daemon = Taskbeat::run(&endpoint)
        .without("AWS_EC2_METADATA_DISABLED")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url())
        .set("--worker-group", "etl@{hostname}")
        .script(runner::OBEDIENT)
        .start();
    endpoint.wait_for_more(2);
    assert!(metadata.requests().is_empty());
}

#[test]
fn a_metadata_service_that_comes_up_late_delays_heartbeats_and_not_the_runner() {
    let endpoint = Endpoint::ok();
    let down = Metadata::closed();
    let (program, id) = on_an_instance(Taskbeat::run(&endpoint), &down.url());
    let daemon = program.script(runner::OBEDIENT).start();
    daemon.wait_for_pid("ready");
    daemon.wait_for_log("WARN heartbeat failed, next in");
    assert!(daemon.log().contains("no {instance-id}: "), "{}", daemon.log());
    assert!(endpoint.requests().is_empty());
    let metadata = down.open();
    put_names(&metadata);
    endpoint.wait_for_more(2);
    assert_eq!(endpoint.requests()[0].body["taskrunnerId"], id);
}

#[test]
fn a_token_that_was_refused_as_expired_is_replaced() {
    let endpoint = Endpoint::ok();
    let metadata = Metadata::start();
    put_names(&metadata);
    metadata.expire_the_next_token();
    let (program, id) = on_an_instance(Taskbeat::run(&endpoint), &metadata.url());
    let daemon = program.script(runner::OBEDIENT).start();
    daemon.wait_for_log("no {instance-id}: the metadata service refuses (HTTP 401)");
    endpoint.wait_for_more(1);
    assert_eq!(endpoint.requests()[0].body["taskrunnerId"], id);
}

#[test]
fn a_missing_name_is_reported_and_never_invented() {
    let metadata = Metadata::start();
    put_names(&metadata);
    let portal = Server::start(|_| {
        let page = Response::bare(200, "<html>Sign in</html>");
        page.header("x-aws-ec2-metadata-token-ttl-seconds", "60")
    });
    let far = Server::start(|_| Response::bare(403, ""));
    for (url, message) in [
        (metadata.url(), "no {public-hostname}: the instance has none (HTTP 404)"),
        (portal.url(), "no {instance-id}: not an answer of a metadata service"),
        (far.url(), "no {instance-id}: "),
    ] {
        let endpoint = Endpoint::ok();
        let once = Taskbeat::new("once").to(&endpoint.url());
        let (program, _) = on_an_instance(once, &url);
        let finished = program.set("--hostname", "{public-hostname}").finish();
        assert_eq!(finished.status, 69, "{finished:?}");
        assert!(finished.stderr.contains(message), "{finished:?}");
        assert!(endpoint.requests().is_empty());
    }
}

#[test]
fn check_online_prints_the_complete_identity() {
    let metadata = Metadata::start();
    put_names(&metadata);
    let (program, id) =
        on_an_instance(Taskbeat::new("check").to("http://127.0.0.1:9"), &metadata.url());
    let finished = program.flag("--online").set("--hostname", "{local-hostname}").finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let line = format!("sends               taskrunner-id {id}, hostname {LOCAL}\n");
    assert!(finished.text().contains(&line), "{finished:?}");
}

#[test]
fn a_rehearsal_asks_for_placeholders_too() {
    let metadata = Metadata::start();
    put_names(&metadata);
    let (program, id) = on_an_instance(Taskbeat::new("rehearse"), &metadata.url());
    let finished = program.set("--script", "ok,terminate").script(runner::PLAIN).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.text().contains(&format!(r#"sent {{"taskrunnerId":"{id}""#)), "{finished:?}");
}
