//! The floor of `benches/compare`: the least program that sends heartbeats by the SDK. It has the
//! SDK's own HTTP client, and reads no files.
//!
//! `bare COUNT PAUSE_MS` sends COUNT heartbeats, and prints a line for each.

use std::env::args;
use std::error::Error;
use std::time::Duration;

use aws_sdk_datapipeline::Client;
use aws_sdk_datapipeline::config::{BehaviorVersion, Config, Credentials, Region};
use aws_smithy_http_client::{Builder, tls};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = args().skip(1);
    let mut number = || arguments.next().unwrap_or_default().parse::<u64>();
    let (count, pause) = (number()?, Duration::from_millis(number()?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = client();
        for _ in 0..count {
            let request = client.report_task_runner_heartbeat();
            request.taskrunner_id("bare").hostname("h").send().await?;
            println!("heartbeat");
            tokio::time::sleep(pause).await;
        }
        Ok(())
    })
}

fn client() -> Client {
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
    let variable = |name| std::env::var(name).unwrap_or_default();
    let (id, secret) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"));
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(variable("AWS_REGION")))
        .endpoint_url(variable("AWS_ENDPOINT_URL_DATA_PIPELINE"))
        .credentials_provider(Credentials::new(id, secret, None, None, "environment"))
        .http_client(Builder::new().tls_provider(tls).build_https())
        .build();
    Client::from_conf(config)
}
