//! Whether a success is the service's own.

use aws_sdk_datapipeline::operation::RequestId;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// Refuses a success that the service never sends.
///
/// The SDK takes an empty body, `{}` and `null` for `terminate = false`, and so a captive portal for an
/// acknowledgement. A real answer names its request and says `terminate` as a boolean, which the service's model
/// requires.
#[derive(Debug)]
pub(super) struct Genuine;

impl Intercept for Genuine {
    fn name(&self) -> &'static str {
        "Genuine"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        if context.output_or_error().is_err() {
            return Ok(());
        }
        if response.headers().request_id().is_none() {
            return Err("the answer has no request id, so it is not the service's own".into());
        }
        let body = response.body().bytes().unwrap_or_default();
        match serde_json::from_slice::<serde_json::Value>(body) {
            Ok(value) if value["terminate"].is_boolean() => Ok(()),
            _ => Err("the answer does not say whether to terminate".into()),
        }
    }
}
