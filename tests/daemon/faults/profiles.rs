//! Profiles: which one is in force, what it decides, and files that are broken.

use std::fs;

use rustix::process::Signal;

use super::{FEW, key_of, keys, once_fails, survives_with, without_keys};
use crate::harness::{
    Authority, Endpoint, Metadata, Request, Response, Server, Step, Taskbeat, replace_file, runner,
};

/// Writes the config file.
fn config(program: Taskbeat, text: &str) -> Taskbeat {
    let file = program.home().join("config");
    replace_file(&file, text);
    program.env("AWS_CONFIG_FILE", file)
}

/// The request of a heartbeat that was acknowledged.
fn acknowledged(endpoint: &Endpoint, program: Taskbeat) -> Request {
    let finished = program.finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    endpoint.requests().pop().unwrap()
}

/// `once`, with a profile `etl` whose access key is `AKIDETL`.
fn with_etl(endpoint: &Endpoint) -> Taskbeat {
    let program = Taskbeat::new("once").to(&endpoint.url());
    let file = program.home().join("credentials");
    replace_file(&file, &keys("etl", "AKIDETL"));
    program.env("AWS_SHARED_CREDENTIALS_FILE", file)
}

#[test]
fn an_explicit_profile_comes_before_keys_in_the_environment() {
    let endpoint = Endpoint::ok();
    let by_flag = with_etl(&endpoint).set("--profile", "etl");
    let by_variable = with_etl(&endpoint).env("TASKBEAT_PROFILE", "etl");
    let by_file = with_etl(&endpoint);
    let file = by_file.home().join("taskbeat.toml");
    fs::write(&file, "profile = \"etl\"\n").unwrap();
    for program in [by_flag, by_variable, by_file.set("--config", file)] {
        assert_eq!(key_of(&acknowledged(&endpoint, program)), "AKIDETL");
    }
}

#[test]
fn keys_in_the_environment_come_before_aws_profile() {
    let endpoint = Endpoint::ok();
    let program = || with_etl(&endpoint).env("AWS_PROFILE", "etl");
    assert_eq!(key_of(&acknowledged(&endpoint, program())), "AKIDEXAMPLE");
    let request = acknowledged(&endpoint, without_keys(program()));
    assert_eq!(key_of(&request), "AKIDETL");
}

#[test]
fn an_explicit_profile_excludes_all_other_sources() {
    let metadata = Metadata::start();
    metadata.put_role("AKIDROLE", "2100-01-01T00:00:00Z");
    let program = |endpoint: &Endpoint| {
        let program = without_keys(Taskbeat::new("once").to(&endpoint.url()))
            .without("AWS_EC2_METADATA_DISABLED")
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url());
        config(program, "[profile etl]\noutput = json\n")
    };
    let endpoint = Endpoint::ok();
    let message = once_fails(program(&endpoint).set("--profile", "etl"), 69);
    let words = "taskbeat: no credentials in profile etl, and an explicit profile excludes all \
                 other sources; AWS_PROFILE does not";
    assert_eq!(message, words);
    assert!(endpoint.requests().is_empty());
    let request = acknowledged(&endpoint, program(&endpoint).env("AWS_PROFILE", "etl"));
    assert_eq!(key_of(&request), "AKIDROLE");
}

#[test]
fn a_profile_that_is_not_defined_is_named() {
    let endpoint = Endpoint::ok();
    for by_flag in [true, false] {
        // Region and keys are in the environment, so nothing else would miss the profile.
        let program = config(with_etl(&endpoint).flag("-v"), "[profile other]\n");
        let (file, credentials) =
            (program.home().join("config"), program.home().join("credentials"));
        let program = if by_flag {
            program.set("--profile", "nope")
        } else {
            program.env("AWS_PROFILE", "nope")
        };
        let words = format!(
            "taskbeat: profile nope is not defined in {} or {}, which define etl, other",
            file.display(),
            credentials.display()
        );
        assert_eq!(once_fails(program, 69), words);
    }
    assert!(endpoint.requests().is_empty());
}

#[test]
fn a_profile_that_is_defined_later() {
    let endpoint = Endpoint::ok();
    let program = Taskbeat::run(&endpoint).flag("-v").set("--profile", "etl");
    let program = config(program.script(runner::OBEDIENT), "[default]\n");
    let file = program.home().join("config");
    let daemon = program.start();
    daemon.wait_for_log(": profile etl is not defined in ");
    replace_file(&file, &keys("profile etl", "AKIDETL"));
    survives_with(&endpoint, daemon, 1).line();
}

/// A broken file is named, even if everything that is needed is in the environment.
#[test]
fn a_file_that_cannot_be_used_is_named() {
    let endpoint = Endpoint::ok();
    for (variable, contents, words) in [
        (
            "AWS_CONFIG_FILE",
            &b"[default]\nregion eu-west-1\n"[..],
            "could not parse profile file: error parsing PATH on line 2: \
             Expected an '=' sign defining a property",
        ),
        (
            "AWS_SHARED_CREDENTIALS_FILE",
            b"[default]\n\n= x\n",
            "could not parse profile file: error parsing PATH on line 3: \
             Property did not have a name",
        ),
        (
            "AWS_CONFIG_FILE",
            b"[default]\nregion = \xFF\n",
            "cannot read PATH (AWS_CONFIG_FILE): stream did not contain valid UTF-8",
        ),
    ] {
        let program = Taskbeat::new("once").to(&endpoint.url());
        let file = program.home().join("file");
        fs::write(&file, contents).unwrap();
        let message = once_fails(program.env(variable, &file), 69);
        let words = words.replace("PATH", &file.display().to_string());
        assert_eq!(message, format!("taskbeat: {words}"));
    }
    let program = Taskbeat::new("once").to(&endpoint.url());
    let directory = program.home().to_owned();
    let message = once_fails(program.env("AWS_CONFIG_FILE", &directory), 69);
    let words = format!("cannot read {} (AWS_CONFIG_FILE): Is a directory", directory.display());
    assert!(message.contains(&words), "{message}");
    assert!(endpoint.requests().is_empty());
}

#[test]
fn a_source_profile_that_is_not_defined() {
    let program = without_keys(Taskbeat::new("once")).env("AWS_PROFILE", "etl");
    let text = "[profile etl]\nrole_arn = arn:aws:iam::123456789012:role/x\n\
                source_profile = nope\n";
    let message = once_fails(config(program, text), 69);
    let words = "taskbeat: no credentials from profile etl: profile `nope` was not defined";
    assert!(message.starts_with(words), "{message}");
}

#[test]
fn a_token_file_of_a_profile_is_named() {
    let program = without_keys(Taskbeat::new("once")).set("--profile", "etl");
    let text = "[profile etl]\nrole_arn = arn:aws:iam::123456789012:role/x\n\
                web_identity_token_file = /nonexistent/token\n";
    let message = once_fails(config(program, text), 69);
    let words = "taskbeat: no credentials from profile etl (token file /nonexistent/token): \
                 No such file or directory";
    assert!(message.starts_with(words), "{message}");
}

#[test]
fn a_login_session_is_not_supported() {
    let program = without_keys(Taskbeat::new("once")).set("--profile", "etl");
    let text = "[profile etl]\nlogin_session = arn:aws:iam::123456789012:user/x\n";
    let message = once_fails(config(program, text), 69);
    let words = "taskbeat: no credentials from profile etl: it uses `aws login`, which taskbeat \
                 does not have; use a profile with credential_process = aws configure \
                 export-credentials --profile NAME --format process";
    assert_eq!(message, words);
}

#[test]
fn the_region_of_the_profile() {
    let endpoint = Endpoint::ok();
    let program = with_etl(&endpoint).without("AWS_REGION").set("--profile", "etl");
    let program = config(program, "[profile etl]\nregion = ap-southeast-2\n");
    let request = acknowledged(&endpoint, program);
    let scope = request.header("authorization");
    assert!(scope.contains("/ap-southeast-2/"), "{scope}");
}

#[test]
fn a_region_that_cannot_be_part_of_a_host_name() {
    let program = Taskbeat::new("check").flag("--online").without("AWS_REGION");
    let message = once_fails(config(program, "[default]\nregion = eu\u{1b}[2J\n"), 69);
    let words = "taskbeat: no endpoint: invalid value for field: `region`";
    assert!(message.starts_with(words), "{message}");
}

#[test]
fn no_region_anywhere() {
    let message = once_fails(Taskbeat::new("once").without("AWS_REGION"), 69);
    let words = "taskbeat: no region: set region, AWS_REGION or one in the profile; the EC2 \
                 metadata names none";
    assert_eq!(message, words);
}

/// `check --online` shows `shown` as the endpoint for this config file.
fn resolves_to(shown: &str, text: &str, prepare: impl FnOnce(Taskbeat) -> Taskbeat) {
    let program = Taskbeat::new("check").flag("--online");
    let trusted = program.home().join("trusted.pem");
    Authority::new("ours").write(&trusted);
    let program = prepare(program).env("SSL_CERT_FILE", trusted);
    let finished = config(program, text).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    let line = format!("\nendpoint            {shown}\n");
    assert!(finished.text().contains(&line), "no {shown} in {finished:?}");
}

const SERVICES: &str = "[default]\nservices = here\nendpoint_url = http://global.test\n\
    [services here]\ndata_pipeline =\n  endpoint_url = http://service.test\n\
    sts =\n  endpoint_url = http://sts.test\n";

#[test]
fn the_endpoint_of_the_services_section() {
    resolves_to("http://service.test", SERVICES, |program| program);
    let hyphen = SERVICES.replace("data_pipeline", "data-pipeline");
    resolves_to("http://service.test", &hyphen, |program| program);
    let other = SERVICES.replace("data_pipeline", "s3");
    resolves_to("http://global.test", &other, |program| program);
    let both = SERVICES.to_owned() + "data-pipeline =\n  endpoint_url = http://hyphen.test\n";
    resolves_to("http://service.test", &both, |program| program);
    let default = "https://datapipeline.eu-west-1.amazonaws.com";
    resolves_to(default, "[default]\n", |program| program);
}

#[test]
fn settings_and_variables_come_before_the_services_section() {
    for (variable, url) in [
        ("AWS_ENDPOINT_URL_DATA_PIPELINE", "http://specific.test"),
        ("AWS_ENDPOINT_URL", "http://variable.test"),
        ("TASKBEAT_ENDPOINT_URL", "http://setting.test"),
    ] {
        resolves_to(url, SERVICES, |program| program.env(variable, url));
    }
}

#[test]
fn configured_endpoints_can_be_ignored() {
    let default = "https://datapipeline.eu-west-1.amazonaws.com";
    let ignore = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS";
    resolves_to(default, SERVICES, |program| program.env(ignore, "true"));
    let text = SERVICES
        .replace("services = here", "services = here\nignore_configured_endpoint_urls = true");
    resolves_to(default, &text, |program| program);
    resolves_to("http://setting.test", &text, |program| {
        program.env(ignore, "true").env("TASKBEAT_ENDPOINT_URL", "http://setting.test")
    });
}

#[test]
fn a_secret_in_the_endpoint_of_a_profile_is_refused_and_not_repeated() {
    for url in ["http://user:a-secret@service.test", "http://service.test/?token=a-secret"] {
        let text = SERVICES.replace("http://service.test", url);
        let program = config(Taskbeat::new("check").flag("--online"), &text);
        let finished = program.finish();
        assert_eq!(finished.status, 69, "{finished:?}");
        let words = "taskbeat: no endpoint: endpoint_url of the profile must be an http or https \
                     URL without credentials and query";
        assert_eq!(finished.stderr.lines().last(), Some(words));
        assert!(!finished.text().contains("a-secret"), "{finished:?}");
    }
}

#[test]
fn a_heartbeat_goes_to_the_endpoint_of_the_services_section() {
    let endpoint = Endpoint::play([], Step::Ok);
    let text = SERVICES.replace("http://service.test", &endpoint.url());
    let finished = config(Taskbeat::new("once"), &text).finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(endpoint.requests().len(), 1);
}

/// A daemon behind a proxy at `url`, with this config file, whose heartbeats fail. So it makes new
/// clients all the time.
fn warns(url: &str, text: &str, prepare: impl Fn(Taskbeat) -> Taskbeat, warning: &str) {
    let program = Taskbeat::new("run").flag("-v").env("HTTP_PROXY", url).env("HTTPS_PROXY", url);
    let daemon = config(prepare(program), text).script(runner::OBEDIENT).start();
    let line = daemon.wait_for_log(warning);
    assert!(line.contains(&format!("WARN {warning}")), "{line}");
    daemon.wait_for_lines("failed again", 2 * FEW);
    assert_eq!(daemon.log().matches(warning).count(), 1, "{}", daemon.log());
    daemon.signal(Signal::HUP);
    daemon.wait_for_lines(warning, 2);
    daemon.wait_for_lines("failed again", 4 * FEW);
    daemon.signal(Signal::TERM);
    let finished = daemon.finish();
    assert_eq!(finished.stderr.matches(warning).count(), 2, "{finished:?}");
}

#[test]
fn doubtful_endpoints_get_a_warning_at_start_and_at_reload() {
    let proxy = Server::start(|_| Response::error(500, "InternalServiceError", "No"));
    let plain = "endpoint http://service.test is plain http: on the way, heartbeats can be read \
                 and answers forged; use https";
    warns(&proxy.url(), SERVICES, |program| program, plain);
    warns(
        &proxy.url(),
        "",
        |program| program.env("AWS_ENDPOINT_URL", "http://service.test"),
        plain,
    );
}

#[test]
fn endpoints_that_do_not_exist_get_a_warning_at_start_and_at_reload() {
    let closed = Server::closed();
    for (variable, key) in [
        ("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint"),
    ] {
        let words = "is true, but Data Pipeline has no such endpoint: no heartbeat will arrive; \
                     unset it";
        let text = format!("[default]\n{key} = true\n");
        warns(&closed.url(), &text, |program| program, &format!("{key} of the profile {words}"));
        let set = |program: Taskbeat| program.env(variable, "true");
        warns(&closed.url(), &text, set, &format!("{variable} {words}"));
    }
}

#[test]
fn the_region_of_a_profile_without_an_endpoint_gets_a_warning() {
    let closed = Server::closed();
    let warning = "region eu-central-1 has no known Data Pipeline endpoint; these have one: \
                   us-east-1, us-west-2, eu-west-1, ap-northeast-1, ap-southeast-2";
    let text = "[default]\nregion = eu-central-1\n";
    warns(&closed.url(), text, |program| program.without("AWS_REGION"), warning);
}

#[test]
fn a_broken_profile_has_the_same_reason_in_each_attempt() {
    let endpoint = Endpoint::ok();
    let program = without_keys(Taskbeat::run(&endpoint)).flag("-v");
    let broken = "[default]\nsso_session = s\n[sso-session s]\nsso_region = eu-west-1\n";
    let daemon = config(program, broken).start();
    let reason = "no credentials from profile default: profile `default` was not defined: \
        `sso_start_url` was missing";
    for line in daemon.wait_for_lines("heartbeat failed", 4) {
        assert!(line.contains(reason), "{line}");
    }
}

#[test]
fn keys_that_no_header_can_have_are_refused() {
    let endpoint = Endpoint::ok();
    let program = without_keys(Taskbeat::run(&endpoint)).flag("-v");
    let broken = "[default]\naws_access_key_id = AK\u{1}ID\naws_secret_access_key = a-secret\n";
    let daemon = config(program, broken).start();
    for line in daemon.wait_for_lines("heartbeat failed", 2) {
        assert!(
            line.ends_with(": no usable credentials from profile default: bad characters"),
            "{line}"
        );
    }
}

#[test]
fn a_role_without_keys_is_not_replaced_by_that_of_the_instance() {
    let metadata = Metadata::start();
    metadata.put_role("AKIDROLE", "2100-01-01T00:00:00Z");
    let profile = "[default]\nrole_arn = arn:aws:iam::123456789012:role/etl\n";
    let program = without_keys(config(
        Taskbeat::new("once"),
        &format!("{profile}source_profile = default\n"),
    ));
    let program = program
        .without("AWS_EC2_METADATA_DISABLED")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url());
    let message = once_fails(program, 69);
    let alone = "it has a role, and no credentials to assume it with";
    assert_eq!(message, format!("taskbeat: no credentials from profile default: {alone}"));
}

#[test]
fn without_a_home_no_file_of_the_working_directory_is_read() {
    let program = || {
        let check = Taskbeat::new("check").flag("--online").without("AWS_REGION");
        fs::create_dir(check.home().join(".aws")).unwrap();
        fs::write(check.home().join(".aws/config"), "[default]\nregion = here-1\n").unwrap();
        check
    };
    for program in
        [program().without("HOME"), program().env("HOME", ""), program().env("HOME", ".")]
    {
        let finished = program.finish();
        assert!(!finished.text().contains("here-1"), "{finished:?}");
    }
    let finished = program().finish();
    assert!(finished.text().contains("here-1"), "{finished:?}");
}
