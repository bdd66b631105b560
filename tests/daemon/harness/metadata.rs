//! The EC2 metadata service, version 2: a token first, then whatever a test put there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::server::{ClosedServer, Server};
use super::{Request, Response};

const TOKEN: &str = "a-metadata-token";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
const ROLE: &str = "runner-role";

type Documents = Arc<Mutex<BTreeMap<String, Response>>>;

/// A metadata service; what it does not have is 404. Its address goes into `AWS_EC2_METADATA_SERVICE_ENDPOINT`, and
/// `AWS_EC2_METADATA_DISABLED` is to be taken out.
pub(crate) struct Metadata {
    server: Server,
    documents: Documents,
}

/// One that is not up yet.
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

    /// `path` begins with `/latest/`.
    pub(crate) fn put(&self, path: &str, response: Response) {
        let mut documents = self.documents.lock().unwrap();
        documents.insert(path.to_owned(), response);
    }

    pub(crate) fn put_text(&self, path: &str, text: &str) {
        self.put(path, Response::bare(200, text));
    }

    /// The instance is in this region.
    pub(crate) fn put_region(&self, region: &str) {
        self.put_text("/latest/meta-data/placement/region", region);
    }

    /// The instance has a role, with these credentials; `expires` is a time such as `2030-01-01T00:00:00Z`.
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

    /// Asked for a role, it says this.
    pub(crate) fn put_no_role(&self, status: u16) {
        self.put(ROLES, Response::bare(status, ""));
    }

    /// The requests that have come so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }
}

impl ClosedMetadata {
    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    pub(crate) fn open(self) -> Metadata {
        let documents = Documents::default();
        let known = Arc::clone(&documents);
        let server = self.0.open(move |request| answer(request, &known));
        Metadata { server, documents }
    }
}

fn answer(request: &Request, documents: &Documents) -> Response {
    let mut words = request.line.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if (method, path) == ("PUT", "/latest/api/token") {
        let ttl = request.header("x-aws-ec2-metadata-token-ttl-seconds");
        return Response::bare(200, TOKEN).header("x-aws-ec2-metadata-token-ttl-seconds", ttl);
    }
    if request.header("x-aws-ec2-metadata-token") != TOKEN {
        return Response::bare(401, "");
    }
    let documents = documents.lock().unwrap();
    let found = documents.get(path).cloned();
    found.unwrap_or_else(|| Response::bare(404, ""))
}
