//! The EC2 metadata service, version 2: it gives a token, and with it what a test put there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::server::{ClosedServer, Server};
use super::{Request, Response};

const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
const ROLE: &str = "runner-role";

/// A metadata service. Its URL belongs into `AWS_EC2_METADATA_SERVICE_ENDPOINT`, and
/// `AWS_EC2_METADATA_DISABLED` must be unset.
pub(crate) struct Metadata {
    server: Server,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    documents: BTreeMap<String, Response>,
    /// The number of the valid token.
    token: u32,
    /// True if the next token is expired from the start.
    expire_next: bool,
}

/// A metadata service that is not up yet.
pub(crate) struct ClosedMetadata(ClosedServer);

impl Metadata {
    pub(crate) fn closed() -> ClosedMetadata {
        ClosedMetadata(Server::closed())
    }

    pub(crate) fn start() -> Self {
        Self::closed().open()
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// Answers `path`, which begins with `/latest/`, with `response`.
    pub(crate) fn put(&self, path: &str, response: Response) {
        let mut known = self.known.lock().unwrap();
        known.documents.insert(path.to_owned(), response);
    }

    pub(crate) fn put_text(&self, path: &str, text: &str) {
        self.put(path, Response::bare(200, text));
    }

    /// Puts the instance into a region.
    pub(crate) fn put_region(&self, region: &str) {
        self.put_text("/latest/meta-data/placement/region", region);
    }

    /// Gives the instance a role with these credentials, which expire at `2030-01-01T00:00:00Z` or
    /// another time in that form.
    pub(crate) fn put_role(&self, key: &str, expires: &str) {
        let credentials = serde_json::json!({
            "Code": "Success",
            "Type": "AWS-HMAC",
            "LastUpdated": "2020-01-01T00:00:00Z",
            "AccessKeyId": key,
            "SecretAccessKey": "a-secret",
            "Token": "a-token",
            "Expiration": expires,
        });
        self.put_text(ROLES, ROLE);
        self.put_text(&format!("{ROLES}{ROLE}"), &credentials.to_string());
    }

    /// Answers the question for the role with `status`.
    pub(crate) fn put_no_role(&self, status: u16) {
        self.put(ROLES, Response::bare(status, ""));
    }

    /// Never ends the response to the question for the role.
    pub(crate) fn put_role_that_hangs(&self) {
        self.put(ROLES, Response::bare(200, "").without_end());
    }

    /// Makes the next token expired from the start.
    pub(crate) fn expire_the_next_token(&self) {
        self.known.lock().unwrap().expire_next = true;
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }
}

impl ClosedMetadata {
    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    pub(crate) fn open(self) -> Metadata {
        let known = Arc::<Mutex<Known>>::default();
        let shared = Arc::clone(&known);
        let server = self.0.open(move |request| answer(request, &mut shared.lock().unwrap()));
        Metadata { server, known }
    }
}

fn answer(request: &Request, known: &mut Known) -> Response {
    let mut words = request.line.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let token = format!("metadata-token-{}", known.token);
    if (method, path) == ("PUT", "/latest/api/token") {
        known.token += u32::from(std::mem::take(&mut known.expire_next));
        let ttl = request.header("x-aws-ec2-metadata-token-ttl-seconds");
        return Response::bare(200, &token).header("x-aws-ec2-metadata-token-ttl-seconds", ttl);
    }
    if request.header("x-aws-ec2-metadata-token") != token {
        return Response::bare(401, "");
    }
    let found = known.documents.get(path).cloned();
    found.unwrap_or_else(|| Response::bare(404, ""))
}
