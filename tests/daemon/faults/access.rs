//! What `check --online` and `-v` show of the way to the service.

use super::{keys, once_fails, without_keys};
use crate::harness::{
    Authority, Certified, Endpoint, Metadata, Response, Server, Step, Taskbeat, Tls, replace_file,
    runner,
};

const PASSWORD: &str = "the-proxy-password";
const ROLE: &str = "arn:aws:iam::123456789012:role/runner";

/// The last paragraph of `check --online`: each fact with its name.
fn access(program: Taskbeat) -> Vec<[String; 2]> {
    let finished = program.flag("--online").finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let text = finished.text();
    let lines = text.trim_end().rsplit("\n\n").next().unwrap().lines();
    lines
        .map(|line| line.split_at(20))
        .map(|(name, fact)| [name.trim().into(), fact.into()])
        .collect()
}

fn has(facts: &[[String; 2]], name: &str, fact: &str) {
    assert!(facts.contains(&[name.to_owned(), fact.to_owned()]), "no {name} {fact} in {facts:?}");
}

/// `check` with this config file and no keys in the environment.
fn check(text: &str) -> Taskbeat {
    let program = without_keys(Taskbeat::new("check")).to("http://datapipeline.test");
    let file = program.home().join("config");
    replace_file(&file, text);
    program.env("AWS_CONFIG_FILE", file)
}

/// STS for all ways to assume a role.
fn sts() -> Server {
    Server::start(|request| {
        let role = super::credentials::of_role("AKIDOFROLE");
        let is_web = request.text.contains("WithWebIdentity");
        let role = if is_web { role } else { role.replace("RoleWithWebIdentity", "Role") };
        Response::bare(200, &role)
    })
}

#[test]
fn keys_of_the_environment() {
    let endpoint = Endpoint::ok();
    let facts = access(Taskbeat::new("check").to(&endpoint.url()));
    for (name, fact) in [
        ("region", "eu-west-1"),
        ("endpoint", &endpoint.url()),
        ("credentials", "environment"),
        ("role", "-"),
        ("access key", "AKID…MPLE, expires never"),
        ("proxy", "-"),
        ("trust store", "-"),
    ] {
        has(&facts, name, fact);
    }
    assert_eq!(facts.len(), 8);
    assert!(endpoint.requests().is_empty());
}

#[test]
fn keys_of_the_environment_in_place_of_a_profile_get_a_warning() {
    let shows = |variable| {
        let program = Taskbeat::new("check").to("http://127.0.0.1:9").flag("--online");
        let file = program.home().join("config");
        replace_file(&file, &keys("profile etl", "AKIDOFPROFILE"));
        let program = program.env("AWS_CONFIG_FILE", file).env(variable, "etl");
        program.finish().text()
    };
    let problem = "keys in the environment come before AWS_PROFILE, which is etl";
    let remedy = "unset AWS_ACCESS_KEY_ID, or choose the profile by TASKBEAT_PROFILE";
    let warning = format!("warning: {problem}\n         {remedy}\n");
    let text = shows("AWS_PROFILE");
    assert!(text.contains(&warning) && text.contains("AKID…MPLE"), "{text}");
    let text = shows("TASKBEAT_PROFILE");
    assert!(!text.contains("come before") && text.contains("AKID…FILE"), "{text}");
}

#[test]
fn the_role_behind_a_profile() {
    let sts = sts();
    let text = keys("profile source", "AKIDSOURCE")
        + &format!("[profile etl]\nrole_arn = {ROLE}\nsource_profile = source\n");
    let program = check(&text).set("--profile", "etl").env("AWS_ENDPOINT_URL_STS", sts.url());
    let facts = access(program);
    has(&facts, "credentials", "profile etl");
    has(&facts, "role", ROLE);
    has(&facts, "access key", "AKID…ROLE, expires 2100-01-01T00:00:00Z");
}

#[test]
fn the_role_of_a_web_identity() {
    let sts = sts();
    let program = check("").env("AWS_ENDPOINT_URL_STS", sts.url()).env("AWS_ROLE_ARN", ROLE);
    let file = program.home().join("token");
    replace_file(&file, "TOKEN");
    let shown = format!("web identity (token file {})", file.display());
    let facts = access(program.env("AWS_WEB_IDENTITY_TOKEN_FILE", file));
    has(&facts, "credentials", &shown);
    has(&facts, "role", ROLE);
}

#[test]
fn the_role_of_an_instance() {
    let metadata = Metadata::start();
    metadata.put_role("AKIDROLE", "2100-01-01T00:00:00Z");
    let program = check("")
        .without("AWS_EC2_METADATA_DISABLED")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url());
    let facts = access(program);
    has(&facts, "credentials", "EC2 metadata");
    has(&facts, "role", "runner-role");
}

#[test]
fn the_proxy_without_its_password_and_the_trust_store() {
    let program = Taskbeat::new("check").to("https://datapipeline.test");
    let file = program.home().join("trusted.pem");
    Authority::new("ours").write(&file);
    let facts = access(
        program
            .env("HTTPS_PROXY", format!("http://user:{PASSWORD}@proxy.test:3128"))
            .env("AWS_CA_BUNDLE", &file),
    );
    has(&facts, "proxy", "proxy.test:3128");
    has(&facts, "trust store", &format!("{}, certificates: 1", file.display()));
    let missing = Taskbeat::new("check").to("https://datapipeline.test").flag("--online");
    let message = once_fails(missing.env("AWS_CA_BUNDLE", "/nonexistent"), 69);
    assert!(message.starts_with("taskbeat: no certificate in /nonexistent: "), "{message}");
}

/// The steps of a heartbeat in the log of a program that logs at debug level.
fn shows_each_step(log: &str, tls: &Tls) {
    let peer = tls.url().replace("https://", "");
    let mut lines = log.lines();
    for (text, end) in [
        ("getting credentials from environment took=", "s"),
        ("looking up localhost took=", "s"),
        (&*format!("connecting to {peer} ("), ""),
        (&format!("in the TLS handshake with {peer} took="), "s"),
        (&format!("{peer} answers status=400"), ""),
        (&format!("heartbeat to {}, credentials from environment", tls.url()), ""),
        (&format!("waiting for the answer of {peer} took="), "s"),
    ] {
        let found = lines.find(|line| line.contains(&format!("DEBUG {text}")));
        assert!(found.is_some_and(|line| line.ends_with(end)), "no {text} in order in {log}");
    }
    for secret in ["a-secret-key", "AKIDEXAMPLE", PASSWORD] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn verbose_programs_show_each_step_of_each_heartbeat() {
    let endpoint = Endpoint::play([], Step::deny());
    let authority = Authority::new("ours");
    let tls =
        Tls::before(endpoint.addr(), &authority, Certified { name: "localhost", until: 2100 });
    let program = |subcommand| {
        let program = Taskbeat::new(subcommand).to(&tls.url()).flag("-v");
        let file = program.home().join("trusted.pem");
        authority.write(&file);
        program.env("SSL_CERT_FILE", file)
    };
    shows_each_step(&program("once").finish().stderr, &tls);
    let daemon = program("run").script(runner::OBEDIENT).start();
    // The second heartbeat has the credentials already.
    let answers = daemon.wait_for_lines("answers status=400", 3);
    assert!(answers.len() >= 3);
    daemon.wait_for_lines("credentials from environment", 3);
    shows_each_step(&daemon.log(), &tls);
}
