//! Lambda: functions, their code and versions, and waiting for what they answer.

use std::fmt;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::LogType;
use aws_smithy_http_client::pool::{Client, ConnectionPool};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Aws, AwsError, CONNECT_TIMEOUT};

const INVOKE: &str = "lambda:InvokeFunction";

/// How much longer than the function itself its caller waits: for a cold start, and for the answer's way.
const GRACE: Duration = Duration::from_secs(15);

/// A function. Its environment is left out on purpose: it may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Function {
    /// Its ARN.
    pub arn: String,
    /// `Image` or `Zip`.
    pub package_type: String,
    /// The image as it was given to Lambda, perhaps by a tag.
    pub image: Option<String>,
    /// The image by its digest.
    pub resolved_image: Option<String>,
    /// `Pending`, `Active`, `Inactive` or `Failed`.
    pub state: String,
    /// `InProgress`, `Successful` or `Failed`.
    pub last_update_status: String,
    /// Why the last update failed.
    pub last_update_reason: Option<String>,
    /// How long one invocation may take: at most 15 minutes.
    pub timeout: Duration,
    /// `python3.13`, `nodejs22.x`; `None` for an image.
    pub runtime: Option<String>,
    /// `module.function` of a zip.
    pub handler: Option<String>,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// What the function runs instead of its image's own entry point and command; empty when it overrides neither.
    pub image_command: Vec<String>,
    /// The SHA-256 of its code, in base64; empty where nobody says.
    pub code_sha256: String,
    /// Where its log goes: `/aws/lambda/NAME`.
    pub log_group: String,
}

impl Function {
    /// What its code is: the image by its digest, or the zip's SHA-256 as Lambda writes it.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        let image = self.resolved_image.as_deref().or(self.image.as_deref());
        image.or_else(|| Some(self.code_sha256.as_str()).filter(|sha256| !sha256.is_empty()))
    }
}

/// Code to give to a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionCode<'a> {
    /// An image, by its digest.
    Image(&'a str),
    /// A zip: at most 50 MB in a request.
    Zip(&'a [u8]),
    /// A zip that lies in a bucket, by its key.
    ZipInBucket(&'a str, &'a str),
}

/// What an invocation answered.
#[derive(Clone, PartialEq, Eq)]
pub struct Invocation {
    /// `Unhandled` or `Handled` when the function failed; then the payload says how.
    pub function_error: Option<String>,
    /// The answer, as JSON.
    pub payload: String,
    /// The last 4 KiB of the log.
    pub log_tail: String,
}

impl fmt::Debug for Invocation {
    /// Leaves out what the function said, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation").field("function_error", &self.function_error).finish_non_exhaustive()
    }
}

impl Aws {
    /// A function by its name; `None` when there is none.
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html>
    ///
    /// # Errors
    /// Not allowed.
    pub async fn function(&self, name: &str) -> Result<Option<Function>, AwsError> {
        let answer = match self.0.lambda.get_function().function_name(name).send().await.map_err(AwsError::of("lambda:GetFunction", name)) {
            Err(error) if error.is_not_found() => return Ok(None),
            answer => answer?,
        };
        let configuration =
            answer.configuration.ok_or_else(|| AwsError::unexpected("lambda:GetFunction", name, "the answer holds no configuration"))?;
        let override_of = configuration.image_config_response.and_then(|response| response.image_config);
        let image_command = override_of.map(|image| [image.entry_point, image.command].into_iter().flatten().flatten().collect());
        let architecture = configuration.architectures.and_then(|all| all.into_iter().next()).map(|one| one.as_str().to_owned());
        let (image, resolved_image) = answer.code.map(|code| (code.image_uri, code.resolved_image_uri)).unwrap_or_default();
        Ok(Some(Function {
            arn: configuration.function_arn.unwrap_or_default(),
            package_type: configuration.package_type.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
            image,
            resolved_image,
            state: configuration.state.map(|state| state.as_str().to_owned()).unwrap_or_default(),
            last_update_status: configuration.last_update_status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
            last_update_reason: configuration.last_update_status_reason.filter(|reason| !reason.is_empty()),
            timeout: Duration::from_secs(configuration.timeout.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default()),
            runtime: configuration.runtime.map(|runtime| runtime.as_str().to_owned()),
            handler: configuration.handler,
            // AWS: "The default value is x86_64."
            architecture: architecture.unwrap_or_else(|| "x86_64".to_owned()),
            image_command: image_command.unwrap_or_default(),
            code_sha256: configuration.code_sha256.unwrap_or_default(),
            log_group: configuration.logging_config.and_then(|logging| logging.log_group).unwrap_or_else(|| format!("/aws/lambda/{name}")),
        }))
    }

    /// Gives a function other code. The change is under way when this answers: see [`Function::last_update_status`].
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionCode.html>
    ///
    /// # Errors
    /// No such function ([`AwsError::is_not_found`]); another update is under way ([`AwsError::is_conflict`]); the image is not there, or
    /// Lambda may not read it; not allowed.
    pub async fn update_function_code(&self, name: &str, code: FunctionCode<'_>) -> Result<(), AwsError> {
        let failed = AwsError::of("lambda:UpdateFunctionCode", name);
        let request = self.0.lambda.update_function_code().function_name(name);
        let request = match code {
            FunctionCode::Image(uri) => request.image_uri(uri),
            FunctionCode::Zip(bytes) => request.zip_file(Blob::new(bytes)),
            FunctionCode::ZipInBucket(bucket, key) => request.s3_bucket(bucket).s3_key(key),
        };
        request.send().await.map_err(failed)?;
        Ok(())
    }

    /// Publishes a version of the code that a function has now, and gives its number. Code that has one already keeps it.
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_PublishVersion.html>
    ///
    /// # Errors
    /// No such function ([`AwsError::is_not_found`]); an update is under way ([`AwsError::is_conflict`]); the code is no longer the one with
    /// this digest; not allowed.
    pub async fn publish_version(&self, name: &str, code_sha256: &str, description: &str) -> Result<String, AwsError> {
        const OPERATION: &str = "lambda:PublishVersion";
        let request = self.0.lambda.publish_version().function_name(name).description(description);
        let request = request.set_code_sha256((!code_sha256.is_empty()).then(|| code_sha256.to_owned()));
        let answer = request.send().await.map_err(AwsError::of(OPERATION, name))?;
        answer.version.ok_or_else(|| AwsError::unexpected(OPERATION, name, "the answer names no version"))
    }

    /// Invokes a version of a function once and waits for its answer: never repeated, as nobody knows what a lost attempt has done.
    ///
    /// `timeout` is the function's own; the call waits 15 s longer. The connection is kept alive, for a NAT gateway forgets an idle one
    /// after 350 s (<https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html>).
    ///
    /// <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>
    ///
    /// # Errors
    /// No such function ([`AwsError::is_not_found`]); not ready ([`AwsError::is_conflict`]) or throttled; not allowed; no answer
    /// ([`AwsError::is_answer_lost`], [`AwsError::is_server_fault`]): then the function may have run. A function that failed is no error.
    pub async fn invoke(
        &self,
        name: &str,
        version: Option<&str>,
        payload: &serde_json::Value,
        timeout: Duration,
    ) -> Result<Invocation, AwsError> {
        let patience = timeout + GRACE;
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(patience).operation_attempt_timeout(patience);
        let pool = ConnectionPool::builder().tcp_keepalive(Duration::from_mins(1)).tls_provider(tls::Provider::Rustls(CryptoMode::Ring));
        let pool = pool.build_https().map_err(|error| AwsError::unexpected(INVOKE, name, error.to_string()))?;
        let http = Client::new(&pool).map_err(|error| AwsError::unexpected(INVOKE, name, error.to_string()))?;
        let config = aws_sdk_lambda::config::Builder::from(&self.0.config)
            .http_client(http)
            .timeout_config(timeouts.build())
            .retry_config(RetryConfig::disabled())
            .interceptor(self.0.fence.clone())
            // A migration says nothing for minutes and is not stalled.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let client = aws_sdk_lambda::Client::from_conf(config.build());
        let request = client
            .invoke()
            .function_name(name)
            .set_qualifier(version.map(str::to_owned))
            .log_type(LogType::Tail)
            .payload(Blob::new(payload.to_string()));
        let answer = request.send().await.map_err(AwsError::of(INVOKE, name))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Invocation {
            function_error: answer.function_error,
            payload: answer.payload.map(|payload| text(payload.into_inner())).unwrap_or_default(),
            log_tail: answer.log_result.and_then(|tail| STANDARD.decode(tail).ok()).map(text).unwrap_or_default(),
        })
    }
}
