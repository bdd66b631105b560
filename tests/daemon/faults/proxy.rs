//! Proxies of the environment.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::{io, thread};

use rustix::process::Signal;

use super::{MANY, key_of, once_fails, without_keys};
use crate::harness::{
    Authority, Certified, Endpoint, Metadata, Request, Response, Server, Step, Taskbeat, Tls,
    replace_file, runner,
};

/// A proxy that connects every tunnel to one address.
struct Tunnel {
    addr: SocketAddr,
    /// The heads of the requests that it received.
    heads: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let received = Arc::clone(&heads);
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    client.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                received.lock().unwrap().push(String::from_utf8(head).unwrap());
                client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
                let server = TcpStream::connect(target).unwrap();
                pump(&client, &server);
                pump(&server, &client);
            }
        });
        Self { addr, heads }
    }
}

/// Copies everything from one side to the other, on a thread of its own.
fn pump(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

const LOCALHOST: Certified = Certified { name: "localhost", until: 2100 };

#[test]
fn tls_through_a_tunnel() {
    let authority = Authority::new("ours");
    let endpoint = Endpoint::ok();
    let service = Tls::before(endpoint.addr(), &authority, LOCALHOST);
    let tunnel = Tunnel::to(service.addr());
    let encrypted = Tls::before(tunnel.addr, &authority, LOCALHOST);
    for proxy in [format!("http://{}", tunnel.addr), encrypted.url()] {
        let program = Taskbeat::new("once").to("https://localhost:44444");
        let trusted = program.home().join("trusted.pem");
        authority.write(&trusted);
        let proxy = proxy.replace("://", "://user:p%40ss@");
        let program = program.env("SSL_CERT_FILE", trusted);
        let finished = program.env("HTTPS_PROXY", proxy).finish();
        assert_eq!(finished.status, 0, "{finished:?}");
    }
    let heads = tunnel.heads.lock().unwrap();
    assert_eq!(heads.len(), 2);
    for head in heads.iter() {
        let lines: Vec<_> = head.lines().collect();
        assert_eq!(lines[0], "CONNECT localhost:44444 HTTP/1.1");
        let header = |text: &str| lines.iter().any(|line| line.eq_ignore_ascii_case(text));
        assert!(header("host: localhost:44444"), "{head}");
        // user:p@ss
        assert!(header("proxy-authorization: Basic dXNlcjpwQHNz"), "{head}");
    }
    assert!(endpoint.requests()[0].header("proxy-authorization").is_empty());
}

#[test]
fn a_proxy_that_refuses() {
    let proxy = Server::start(|request| {
        assert!(request.line.starts_with("CONNECT "), "{}", request.line);
        Response::bare(407, "").header("Proxy-Authenticate", "Basic")
    });
    let daemon = Taskbeat::new("run")
        .to("https://datapipeline.invalid")
        .env("HTTPS_PROXY", proxy.url())
        .flag("-v")
        .script(runner::OBEDIENT)
        .start();
    let line = daemon.wait_for_log("WARN heartbeat failed");
    let peer = proxy.url().replace("http://", "");
    let words = format!(
        ": proxy {peer} refused to connect to datapipeline.invalid:443: \
         HTTP 407 Proxy Authentication Required"
    );
    assert!(line.ends_with(&words), "{line}");
    daemon.wait_for_lines("failed again", MANY);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().status, 42);
    assert!(proxy.requests().len() > MANY);
}

#[test]
fn a_proxy_that_is_down() {
    let closed = Endpoint::closed();
    let program =
        Taskbeat::new("once").to("https://datapipeline.invalid").env("HTTPS_PROXY", closed.url());
    let message = once_fails(program, 69);
    let peer = closed.url().replace("http://", "");
    let words = format!("taskbeat: cannot connect to proxy {peer}: Connection refused");
    assert!(message.starts_with(&words), "{message}");
}

/// A proxy that answers as the service and as STS.
fn forwarding() -> Server {
    Server::start(|request| {
        if request.text.contains("AssumeRoleWithWebIdentity") {
            return Response::bare(200, &super::credentials::of_role("AKIDOFSTS"));
        }
        Response::acknowledge(false)
    })
}

/// `once` behind a proxy that forwards to names which do not exist.
fn behind(proxy: &Server) -> Taskbeat {
    without_keys(Taskbeat::new("once"))
        .to("http://datapipeline.invalid/base")
        .env("HTTP_PROXY", proxy.url())
        .env("http_proxy", proxy.url())
}

/// The requests that the proxy forwarded, without the version.
fn forwarded(proxy: &Server) -> Vec<String> {
    let line = |request: Request| request.line.replace(" HTTP/1.1", "");
    proxy.requests().into_iter().map(line).collect()
}

const HEARTBEAT: &str = "POST http://datapipeline.invalid/base/";

#[test]
fn credentials_of_an_instance_do_not_pass_a_proxy() {
    let proxy = forwarding();
    let metadata = Metadata::start();
    metadata.put_region("eu-west-1");
    metadata.put_role("AKIDROLE", "2100-01-01T00:00:00Z");
    metadata.put_text("/latest/meta-data/instance-id", "i-1");
    for pinned in [false, true] {
        let mut program = behind(&proxy)
            .without("AWS_REGION")
            .without("AWS_EC2_METADATA_DISABLED")
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url());
        if pinned {
            let config = program.home().join("config");
            replace_file(&config, "[profile etl]\ncredential_source = Ec2InstanceMetadata\n");
            program = program.env("AWS_CONFIG_FILE", config).set("--profile", "etl");
        }
        let id = format!("{} {{instance-id}}", program.id());
        let finished = program.set("--taskrunner-id", id).finish();
        assert_eq!(finished.status, 0, "{finished:?}");
    }
    assert_eq!(forwarded(&proxy), [HEARTBEAT; 2]);
    assert!(proxy.requests().iter().all(|request| key_of(request) == "AKIDROLE"));
    assert!(!metadata.requests().is_empty());
}

#[test]
fn credentials_of_a_container_do_not_pass_a_proxy() {
    let proxy = forwarding();
    let container = Server::start(|_| {
        let credentials = r#"{"AccessKeyId":"AKIDTASK","SecretAccessKey":"s","Token":"t",
            "Expiration":"2100-01-01T00:00:00Z"}"#;
        Response::bare(200, credentials)
    });
    let url = container.url();
    let port = url.rsplit(':').next().unwrap();
    for host in ["127.0.0.1", "localhost"] {
        for pinned in [false, true] {
            let url = format!("http://{host}:{port}/credentials");
            let mut program = behind(&proxy).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
            if pinned {
                let config = program.home().join("config");
                replace_file(&config, "[profile etl]\ncredential_source = EcsContainer\n");
                program = program.env("AWS_CONFIG_FILE", config).set("--profile", "etl");
            }
            let finished = program.finish();
            assert_eq!(finished.status, 0, "{finished:?}");
        }
    }
    assert_eq!(forwarded(&proxy), [HEARTBEAT; 4]);
    assert!(proxy.requests().iter().all(|request| key_of(request) == "AKIDTASK"));
}

#[test]
fn sts_is_asked_through_the_proxy() {
    let proxy = forwarding();
    let program = behind(&proxy);
    let file = program.home().join("token");
    replace_file(&file, "TOKEN");
    let finished = program
        .env("AWS_ENDPOINT_URL_STS", "http://sts.invalid")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", file)
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/runner")
        .finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(forwarded(&proxy), ["POST http://sts.invalid/", HEARTBEAT]);
    assert_eq!(key_of(&proxy.requests()[1]), "AKIDOFSTS");
}

#[test]
fn no_proxy_is_obeyed() {
    let endpoint = Endpoint::play([], Step::Ok);
    let closed = Endpoint::closed();
    let program = Taskbeat::new("once").to(&endpoint.url());
    let program = program.env("HTTP_PROXY", closed.url());
    let finished = program.env("NO_PROXY", "127.0.0.0/8").finish();
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(endpoint.requests().len(), 1);
}
