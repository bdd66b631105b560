//! The host of a life: its clock, its name server and its metadata service.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use fastrand::Rng;

use super::evidence::Evidence;
use crate::faults::names::{Answer, Network, serve_names};
use crate::harness::{Endpoint, Metadata, Taskbeat};

/// Later than any life.
const EXPIRES: &str = "2030-01-01T00:00:00Z";

/// A network with a name server, for all lives together. Each life has a name of its own.
pub(super) struct Names {
    network: Network,
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
}

impl Names {
    /// `None` for a user who may not make one.
    pub(super) fn new() -> Option<Self> {
        let network = Network::new("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")?;
        let answers = Arc::<Mutex<BTreeMap<String, Answer>>>::default();
        let known = Arc::clone(&answers);
        network.inside(|| {
            serve_names(Ipv4Addr::LOCALHOST, move |name, _| {
                known.lock().unwrap().get(name).copied().unwrap_or(Answer::None)
            });
        });
        Some(Self { network, answers })
    }

    fn set(&self, name: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(name.to_owned(), answer);
    }
}

pub(super) struct Host<'a> {
    names: Option<(&'a Names, String)>,
    metadata: Option<Metadata>,
    /// How far its clocks are ahead, in seconds.
    ahead: Option<u32>,
}

/// The answer of a name server that works.
const WORKS: Answer = Answer::Addresses(&[Ipv4Addr::LOCALHOST]);

impl<'a> Host<'a> {
    pub(super) fn random(rng: &mut Rng, seed: u64, names: Option<&'a Names>) -> Self {
        let [network, credentials, clock] = [6, 5, 4].map(|of| rng.u8(..of) == 0);
        let ahead = rng.u32(1..1_000_000);
        let names = names.filter(|_| network).map(|names| (names, format!("life-{seed}")));
        let mut host = Self { names, metadata: None, ahead: clock.then_some(ahead) };
        host.metadata = credentials.then(|| host.inside(Metadata::start));
        if let Some((names, name)) = &host.names {
            names.set(name, WORKS);
        }
        if let Some(metadata) = &host.metadata {
            metadata.put_role("AKIDROLE", EXPIRES);
        }
        host
    }

    fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        match &self.names {
            Some((names, _)) => names.network.inside(act),
            None => act(),
        }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.inside(Endpoint::ok)
    }

    /// Runs `program` in the network of this life, in which its sockets are.
    pub(super) fn run(&self, program: Taskbeat) -> Taskbeat {
        match &self.names {
            Some((names, _)) => names.network.run(program),
            None => program,
        }
    }

    /// Runs the daemon on this host.
    pub(super) fn run_daemon(&self, program: Taskbeat, endpoint: &Endpoint) -> Taskbeat {
        let mut program = self.run(program);
        if let Some((_, name)) = &self.names {
            program = program.to(&format!("http://{name}.test:{}", endpoint.addr().port()));
        }
        if let Some(metadata) = &self.metadata {
            program = program
                .without("AWS_ACCESS_KEY_ID")
                .without("AWS_SECRET_ACCESS_KEY")
                .without("AWS_EC2_METADATA_DISABLED")
                .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url());
        }
        if let Some(ahead) = self.ahead {
            let ahead = ahead.to_string();
            let words = ["unshare", "--time", "--boottime", &ahead, "--monotonic", &ahead];
            // Only root may, and not in every container.
            if Taskbeat::can_start_via(&words, Path::new("/")) {
                program = program.via(&words);
            }
        }
        program
    }

    pub(super) fn has_services(&self) -> bool {
        self.names.is_some() || self.metadata.is_some()
    }

    /// Its name server or its metadata service fails, hangs or works again.
    pub(super) fn disturb(&self, rng: &mut Rng, evidence: &mut Evidence) {
        let (kind, other) = (rng.usize(..4), rng.bool());
        if let (Some((names, name)), true) = (&self.names, other || self.metadata.is_none()) {
            let answer = [Answer::None, Answer::Failure, WORKS, WORKS][kind];
            evidence.step(&format!("the name server: {answer:?}"));
            names.set(name, answer);
        } else if let Some(metadata) = &self.metadata {
            let doing = ["hangs", "fails", "expires its token", "works"][kind];
            evidence.step(&format!("the metadata service {doing}"));
            match kind {
                0 => metadata.put_role_that_hangs(),
                1 => metadata.put_no_role([404, 500, 503][rng.usize(..3)]),
                2 => metadata.expire_the_next_token(),
                _ => metadata.put_role("AKIDROLE", EXPIRES),
            }
        }
    }
}
