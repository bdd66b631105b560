//! What counts as an acknowledgement.

use aws_sdk_datapipeline::operation::RequestId;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::{Intercept, context};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// Refuses a success that the service never sends.
///
/// The SDK takes every 2xx status for a success, and an empty body, `{}` and `null` for
/// `terminate = false`, so a captive portal would acknowledge heartbeats. The service answers with
/// 200, a request id and a boolean `terminate`, which its model requires.
#[derive(Debug)]
pub(super) struct Acknowledgement;

impl Intercept for Acknowledgement {
    fn name(&self) -> &'static str {
        "Acknowledgement"
    }

    fn read_after_deserialization(
        &self,
        context: &context::AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        if context.output_or_error().is_err() {
            return Ok(());
        }
        if response.status().as_u16() != 200 {
            return Err("only HTTP 200 acknowledges a heartbeat".into());
        }
        if response.request_id().is_none_or(str::is_empty) {
            return Err("no request id, so it does not come from Data Pipeline".into());
        }
        let body = response.body().bytes().unwrap_or_default();
        match serde_json::from_slice::<serde_json::Value>(body) {
            Ok(value) if value["terminate"].is_boolean() => Ok(()),
            _ => Err("terminate is neither true nor false".into()),
        }
    }
}
