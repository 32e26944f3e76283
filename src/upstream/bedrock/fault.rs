//! Exceptions of Bedrock, and what its clients hear of them.

use aws_sdk_bedrockruntime::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        RequestId, converse::ConverseError, converse_stream::ConverseStreamError, invoke_model::InvokeModelError,
        invoke_model_with_response_stream::InvokeModelWithResponseStreamError,
    },
    types::error::{ConverseStreamOutputError, ResponseStreamError},
};
use http::StatusCode;

use super::{
    super::{Report, Stage},
    error::{AnthropicError, AnthropicErrorKind, Effect, Failure},
};
use crate::trace::TARGET;

/// An exception by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Validation,
    /// Between this merchant and its provider: rights, account, configuration.
    Ours,
    Throttled,
    NotReady,
    Unavailable,
    ModelTimeout,
    ModelError,
    Internal,
}

/// The exceptions of an operation.
pub(super) trait Exception: ProvideErrorMetadata + RequestId {
    /// Which one it is, where the SDK knows it.
    fn known(&self) -> Option<(Fault, &'static str)>;
}

macro_rules! exceptions {
    ($($error:ident { $($variant:ident),+ $(,)? })+) => {
        $(impl Exception for $error {
            fn known(&self) -> Option<(Fault, &'static str)> {
                match self {
                    $(Self::$variant(_) => Some((fault(stringify!($variant))?, stringify!($variant))),)+
                    _ => None,
                }
            }
        })+
    };
}

exceptions! {
    ConverseError {
        AccessDeniedException, InternalServerException, ModelErrorException, ModelNotReadyException,
        ModelTimeoutException, ResourceNotFoundException, ServiceUnavailableException, ThrottlingException,
        ValidationException,
    }
    ConverseStreamError {
        AccessDeniedException, InternalServerException, ModelErrorException, ModelNotReadyException,
        ModelStreamErrorException, ModelTimeoutException, ResourceNotFoundException, ServiceUnavailableException,
        ThrottlingException, ValidationException,
    }
    InvokeModelError {
        AccessDeniedException, InternalServerException, ModelErrorException, ModelNotReadyException,
        ModelTimeoutException, ResourceNotFoundException, ServiceQuotaExceededException, ServiceUnavailableException,
        ThrottlingException, ValidationException,
    }
    InvokeModelWithResponseStreamError {
        AccessDeniedException, InternalServerException, ModelErrorException, ModelNotReadyException,
        ModelStreamErrorException, ModelTimeoutException, ResourceNotFoundException, ServiceQuotaExceededException,
        ServiceUnavailableException, ThrottlingException, ValidationException,
    }
    ConverseStreamOutputError {
        InternalServerException, ModelStreamErrorException, ServiceUnavailableException, ThrottlingException,
        ValidationException,
    }
    ResponseStreamError {
        InternalServerException, ModelStreamErrorException, ModelTimeoutException, ServiceUnavailableException,
        ThrottlingException, ValidationException,
    }
}

/// The meaning of a code, also of those that the gate in front of Bedrock answers.
fn fault(code: &str) -> Option<Fault> {
    Some(match code {
        "ValidationException" => Fault::Validation,
        "AccessDeniedException" | "ResourceNotFoundException" => Fault::Ours,
        "UnrecognizedClientException" | "InvalidSignatureException" | "IncompleteSignatureException" => Fault::Ours,
        "ExpiredTokenException" | "MissingAuthenticationTokenException" | "UnknownOperationException" => Fault::Ours,
        "ThrottlingException" | "ServiceQuotaExceededException" | "TooManyRequestsException" => Fault::Throttled,
        "ModelNotReadyException" => Fault::NotReady,
        "ServiceUnavailableException" => Fault::Unavailable,
        "ModelTimeoutException" => Fault::ModelTimeout,
        "ModelErrorException" | "ModelStreamErrorException" => Fault::ModelError,
        "InternalServerException" => Fault::Internal,
        _ => return None,
    })
}

/// The meaning of a status, where the code says nothing.
fn fault_of(status: Option<u16>) -> Fault {
    match status {
        Some(408) => Fault::ModelTimeout,
        Some(424) => Fault::ModelError,
        Some(429) => Fault::Throttled,
        Some(503) => Fault::Unavailable,
        Some(400..=499) => Fault::Ours,
        _ => Fault::Internal,
    }
}

/// What became of a request whose answer did not begin.
pub(super) fn of_call<E: Exception>(error: &SdkError<E, HttpResponse>, report: &Report) -> Failure {
    let status = error.raw_response().map(|response| response.status().as_u16());
    let failure = match error {
        SdkError::ServiceError(service) => of_exception(service.err(), status, true),
        // The body of the request has left: nobody can tell what it did.
        _ if report.stage() > Stage::NotStarted => Failure { provider_status: status, ..Failure::cut() },
        _ => unreachable_provider(matches!(error, SdkError::DispatchFailure(failure) if failure.is_timeout())),
    };
    tracing::warn!(
        target: TARGET,
        error = kind(error),
        code = failure.code.as_deref(),
        status,
        aws_request_id = error.as_service_error().and_then(RequestId::request_id),
        "Bedrock has not answered a call"
    );
    failure
}

/// What became of a stream. `begun` says that an event of it has come.
pub(super) fn of_stream<E: Exception, R>(error: &SdkError<E, R>, begun: bool) -> Failure {
    let failure = match error {
        SdkError::ServiceError(service) => of_exception(service.err(), None, !begun),
        SdkError::ResponseError(_) => Failure::broken("unreadable_event"),
        _ => Failure::cut(),
    };
    tracing::warn!(target: TARGET, error = kind(error), code = failure.code.as_deref(), "a stream of Bedrock has failed");
    failure
}

/// A refusal before the first event means that no model has run.
fn of_exception<E: Exception>(error: &E, status: Option<u16>, before: bool) -> Failure {
    let (fault, code) = match error.known() {
        Some((fault, code)) => (fault, Some(code.to_owned())),
        None => {
            let code = error.code().filter(|code| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric()));
            (code.and_then(fault).unwrap_or_else(|| fault_of(status)), code.map(str::to_owned))
        }
    };
    let mut failure = describe(fault, error.message());
    if !before && failure.effect == Effect::None {
        failure.effect = Effect::Unknown;
    }
    Failure { code, provider_status: status, ..failure }
}

fn describe(fault: Fault, message: Option<&str>) -> Failure {
    use AnthropicErrorKind::{Api, InvalidRequest, Overloaded, Timeout};
    let bad_gateway = |message| AnthropicError::new(Api, message).with_status(StatusCode::BAD_GATEWAY);
    let later = |error: AnthropicError, seconds| error.with_retry_after(seconds);
    let unavailable = |message| AnthropicError::new(Overloaded, message).with_status(StatusCode::SERVICE_UNAVAILABLE);
    let (effect, class, error) = match fault {
        Fault::Validation => match message.and_then(about_the_request) {
            Some(message) => (Effect::None, "invalid_request", AnthropicError::new(InvalidRequest, message)),
            None => (Effect::None, "provider_refused", bad_gateway(CANNOT_BE_USED)),
        },
        Fault::Ours => (Effect::None, "provider_refused", bad_gateway(CANNOT_BE_USED)),
        Fault::Throttled => {
            let error = AnthropicError::new(Overloaded, "The model takes no more requests for now.");
            (Effect::None, "provider_overloaded", later(error, 5))
        }
        Fault::NotReady => (Effect::None, "provider_overloaded", later(unavailable("The model is not ready yet."), 10)),
        Fault::Unavailable => {
            (Effect::None, "provider_overloaded", later(unavailable("The model is not available for now."), 10))
        }
        Fault::ModelTimeout => {
            let error = AnthropicError::new(Timeout, "The model did not answer in time.");
            (Effect::TimedOut, "provider_timeout", error)
        }
        Fault::ModelError => {
            (Effect::Unknown, "provider_error", bad_gateway("The model failed while it worked on the request."))
        }
        Fault::Internal => (Effect::Unknown, "provider_error", bad_gateway("The provider of the model failed.")),
    };
    Failure { throttled: fault == Fault::Throttled, ..Failure::new(effect, class, error) }
}

const CANNOT_BE_USED: &str = "The model cannot be used at the moment.";

fn unreachable_provider(in_time: bool) -> Failure {
    let error = AnthropicError::new(AnthropicErrorKind::Api, "The provider of the model cannot be reached.");
    let (class, status) = match in_time {
        true => ("provider_timeout", StatusCode::GATEWAY_TIMEOUT),
        false => ("provider_unreachable", StatusCode::BAD_GATEWAY),
    };
    Failure::new(Effect::None, class, error.with_status(status))
}

fn kind<E, R>(error: &SdkError<E, R>) -> &'static str {
    match error {
        SdkError::ConstructionFailure(_) => "construction",
        SdkError::TimeoutError(_) => "timeout",
        SdkError::DispatchFailure(_) => "dispatch",
        SdkError::ResponseError(_) => "response",
        SdkError::ServiceError(_) => "exception",
        _ => "other",
    }
}

/// What Bedrock says about a request, where it is about the request: it helps the client. What speaks of the
/// merchant's account, its rights, its models or its region is none of the client's business.
fn about_the_request(message: &str) -> Option<String> {
    const OURS: [&str; 20] = [
        "arn:",
        "account",
        "aws",
        "amazon",
        "bedrock",
        "throughput",
        "inference profile",
        "identifier",
        "authoriz",
        "access",
        "credential",
        "security token",
        "signature",
        "region",
        "not allowed",
        "on-demand",
        "endpoint",
        "guardrail",
        "marketplace",
        "use case",
    ];
    let text = message.trim();
    let lower = text.to_ascii_lowercase();
    let ours = OURS.iter().any(|word| lower.contains(word));
    // Numbers of accounts have twelve digits.
    let mut digits = 0;
    let number = text.chars().any(|c| {
        digits = if c.is_ascii_digit() { digits + 1 } else { 0 };
        digits >= 12
    });
    if text.is_empty() || ours || number {
        return None;
    }
    Some(text.chars().filter(|c| !c.is_control()).take(500).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bedrock_says_about_the_merchant_stays_here() {
        for ours in [
            "User: arn:aws:iam::123456789012:user/x is not authorized to perform: bedrock:InvokeModel",
            "Invocation of model ID anthropic.claude-3 with on-demand throughput isn't supported.",
            "Operation not allowed",
            "The provided model identifier is invalid.",
            "Quota of 123456789012 is used up",
            "Access to this model is not available for channel program accounts.",
            "",
        ] {
            assert_eq!(about_the_request(ours), None, "{ours}");
        }
        for theirs in [
            "messages.1: all messages must have non-empty content except for the optional final assistant message",
            "max_tokens: 300000 > 64000, which is the maximum allowed number of output tokens",
            "A conversation must start with a user message.",
        ] {
            assert_eq!(about_the_request(theirs).as_deref(), Some(theirs));
        }
        assert_eq!(about_the_request(&"x".repeat(9000)).unwrap_or_default().len(), 500);
    }

    #[test]
    fn what_a_status_alone_says() {
        assert_eq!(fault_of(Some(429)), Fault::Throttled);
        assert_eq!(fault_of(Some(403)), Fault::Ours);
        assert_eq!(fault_of(Some(500)), Fault::Internal);
        assert_eq!(fault_of(None), Fault::Internal);
    }
}
