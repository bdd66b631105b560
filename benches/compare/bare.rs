//! The floor of `benches/compare`: the shortest program that sends heartbeats by the SDK, with the
//! SDK's own configuration and HTTP client.
//!
//! `bare COUNT PAUSE_MS` sends COUNT heartbeats, and prints a line for each.

use std::env::args;
use std::error::Error;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_datapipeline::Client;
use aws_smithy_http_client::{Builder, tls};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = args().skip(1);
    let mut number = || arguments.next().unwrap_or_default().parse::<u64>();
    let (count, pause) = (number()?, Duration::from_millis(number()?));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = client().await;
        for _ in 0..count {
            let request = client.report_task_runner_heartbeat();
            request.taskrunner_id("bare").hostname("h").send().await?;
            println!("heartbeat");
            tokio::time::sleep(pause).await;
        }
        Ok(())
    })
}

async fn client() -> Client {
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(Builder::new().tls_provider(tls).build_https());
    Client::new(&config.load().await)
}
