//! Services without an SDK of their own here: EC2, RDS, `CloudWatch` and others, by the AWS Query protocol or as JSON.
//!
//! The SDKs of EC2 and RDS would be half of the program, for a dozen questions. So a question travels as the smallest operation of a
//! Query service that is here anyway, Elastic Load Balancing: address, name to sign with, body and the reading of the answer are replaced.
//! Credentials and their renewal, signing, clock skew, retries, timeouts and the kinds of error stay the SDK's.
//!
//! <https://smithy.io/2.0/aws/protocols/aws-query-protocol.html>, <https://smithy.io/2.0/aws/protocols/aws-ec2-query-protocol.html>,
//! <https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html> (`CloudWatch`), and `aws-json-1_1-protocol.html` beside it

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_elasticloadbalancingv2::config::interceptors::{BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextRef};
use aws_sdk_elasticloadbalancingv2::config::{Builder, ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_elasticloadbalancingv2::error::{BoxError, ErrorMetadata};
use aws_sdk_elasticloadbalancingv2::operation::describe_account_limits::{DescribeAccountLimitsError, DescribeAccountLimitsOutput};
use aws_smithy_runtime_api::client::interceptors::context::{Error as AnyError, Output};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use aws_smithy_types::body::SdkBody;
use aws_types::SigningName;
use aws_types::region::{Region, SigningRegion};
use bytes::Bytes;
use serde_json::Value;

use super::fence::Fence;
use super::query_xml::{self, Node};
use super::{Aws, AwsError};

/// A service that is asked in this way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    ApplicationAutoScaling,
    CloudWatch,
    CodeBuild,
    CodePipeline,
    Ec2,
    ElastiCache,
    Events,
    Iam,
    Rds,
    Scheduler,
}

impl Service {
    /// The first part of its host's name: `HOST.us-east-1.amazonaws.com`.
    ///
    /// <https://docs.aws.amazon.com/general/latest/gr/aws-service-information.html>
    fn host(self) -> &'static str {
        match self {
            Self::ApplicationAutoScaling => "application-autoscaling",
            Self::CloudWatch => "monitoring",
            Self::CodeBuild => "codebuild",
            Self::CodePipeline => "codepipeline",
            Self::Ec2 => "ec2",
            Self::ElastiCache => "elasticache",
            Self::Events => "events",
            Self::Iam => "iam",
            Self::Rds => "rds",
            Self::Scheduler => "scheduler",
        }
    }

    /// The version of its API, or of its JSON what stands before the action's name.
    fn version(self) -> &'static str {
        match self {
            Self::ApplicationAutoScaling => "AnyScaleFrontendService",
            Self::CloudWatch => "GraniteServiceVersion20100801",
            Self::CodeBuild => "CodeBuild_20161006",
            Self::CodePipeline => "CodePipeline_20150709",
            Self::Ec2 => "2016-11-15",
            Self::ElastiCache => "2015-02-02",
            Self::Events => "AWSEvents",
            Self::Iam => "2010-05-08",
            Self::Rds => "2014-10-31",
            // It has paths, and no targets.
            Self::Scheduler => "2021-06-30",
        }
    }

    /// Where it is, unless one endpoint stands for all.
    fn url(self, region: &str, fips: bool) -> String {
        let host = if fips { format!("{}-fips", self.host()) } else { self.host().to_owned() };
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        match self.global(region) {
            Some("us-east-1") => format!("https://{host}.{domain}"),
            Some("us-gov-west-1") => format!("https://{}.us-gov.{domain}", self.host()),
            global => format!("https://{host}.{}.{domain}", global.unwrap_or(region)),
        }
    }

    /// The region that questions are signed for, of a service that is one for all regions of a partition.
    ///
    /// <https://docs.aws.amazon.com/general/latest/gr/iam-service.html>
    fn global(self, region: &str) -> Option<&'static str> {
        match region {
            _ if self != Self::Iam => None,
            region if region.starts_with("cn-") => Some("cn-north-1"),
            region if region.starts_with("us-gov-") => Some("us-gov-west-1"),
            _ => Some("us-east-1"),
        }
    }
}

impl Aws {
    /// Asks a service of the Query protocol: `rds:DescribeDBInstances` with its parameters, flattened as that service wants them
    /// (`Filter.1.Name`). The answer is the element below the root that holds the result, or for EC2 the root itself.
    pub(super) async fn query(
        &self,
        service: Service,
        operation: &'static str,
        resource: impl Into<String>,
        parameters: &[(&str, &str)],
    ) -> Result<Node, AwsError> {
        let resource = resource.into();
        let action = action(operation);
        let pairs = [("Action", action), ("Version", service.version())];
        let body: Vec<String> = pairs.iter().chain(parameters).map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
        let headers = vec![("content-type", "application/x-www-form-urlencoded".to_owned())];
        let bytes = self.carry(service, operation, &resource, headers, body.join("&"), None).await?;
        let root =
            query_xml::read(&bytes).map_err(|error| AwsError::unexpected(operation, resource, format!("the answer is no XML: {error}")))?;
        let result = format!("{action}Result");
        Ok(root.children.iter().find(|child| child.name == result).cloned().unwrap_or(root))
    }

    /// Asks for every page of a list: `list` picks the items out of an answer, whose `token` element is given back under the same name.
    pub(super) async fn query_all(
        &self,
        service: Service,
        operation: &'static str,
        resource: &str,
        parameters: &[(&str, &str)],
        token: &str,
        list: impl Fn(&Node) -> Vec<Node>,
    ) -> Result<Vec<Node>, AwsError> {
        let mut items = Vec::new();
        let mut next = String::new();
        loop {
            let mut parameters = parameters.to_vec();
            if !next.is_empty() {
                parameters.push((token, &next));
            }
            let page = self.query(service, operation, resource, &parameters).await?;
            items.extend(list(&page));
            // EC2 begins its names with small letters.
            let found = page.children.iter().find(|child| child.name.eq_ignore_ascii_case(token)).map(|child| child.text.clone());
            match found.filter(|found| !found.is_empty() && *found != next) {
                Some(found) => next = found,
                None => return Ok(items),
            }
        }
    }

    /// Asks a service of the JSON protocol.
    pub(super) async fn json(
        &self,
        service: Service,
        operation: &'static str,
        resource: impl Into<String>,
        body: &Value,
    ) -> Result<Value, AwsError> {
        let resource = resource.into();
        let target = format!("{}.{}", service.version(), action(operation));
        let content = if service == Service::CloudWatch { "application/x-amz-json-1.0" } else { "application/x-amz-json-1.1" };
        let headers = vec![("content-type", content.to_owned()), ("x-amz-target", target)];
        let bytes = self.carry(service, operation, &resource, headers, body.to_string(), None).await?;
        serde_json::from_slice(&bytes).map_err(|error| AwsError::unexpected(operation, resource, format!("the answer is no JSON: {error}")))
    }

    /// Asks a service of the REST protocol, whose actions are methods and paths. A `null` body is none.
    ///
    /// <https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html>
    pub(super) async fn rest(
        &self,
        service: Service,
        operation: &'static str,
        resource: &str,
        method: &'static str,
        path: &str,
        body: &Value,
    ) -> Result<Value, AwsError> {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let headers = vec![("content-type", "application/json".to_owned())];
        let bytes = self.carry(service, operation, resource, headers, text, Some((method, path))).await?;
        serde_json::from_slice(&bytes).map_err(|error| AwsError::unexpected(operation, resource, format!("the answer is no JSON: {error}")))
    }

    async fn carry(
        &self,
        service: Service,
        operation: &'static str,
        resource: &str,
        headers: Vec<(&'static str, String)>,
        body: String,
        place: Option<(&'static str, &str)>,
    ) -> Result<Bytes, AwsError> {
        let fence = (!super::fence::reads(action(operation))).then(|| self.0.fence.clone());
        let answer = Arc::default();
        let carried = Carried { name: service.host(), region: service.global(self.region()), fence, answer: Reader(Arc::clone(&answer)) };
        let url = self.endpoint_url().map_or_else(|| service.url(self.region(), self.0.config.use_fips() == Some(true)), str::to_owned);
        let call = self.0.elb.describe_account_limits().customize();
        let place = place.map(|(method, path)| (method, format!("{}{path}", url.trim_end_matches('/'))));
        let call = call.config_override(Builder::new().endpoint_url(url)).interceptor(carried).mutate_request(move |request| {
            if let Some((method, uri)) = &place
                && request.set_method(method).is_ok()
            {
                // An address that is none fails with the sending.
                let _ = request.set_uri(uri.as_str());
            }
            for (name, value) in &headers {
                request.headers_mut().insert(*name, value.clone());
            }
            request.headers_mut().insert("content-length", body.len().to_string());
            *request.body_mut() = SdkBody::from(body.as_str());
        });
        call.send().await.map_err(AwsError::of(operation, resource))?;
        Ok(answer.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default())
    }
}

/// `ec2:DescribeSubnets` without the service.
fn action(operation: &'static str) -> &'static str {
    operation.split_once(':').map_or(operation, |(_, action)| action)
}

/// As forms want it: all but letters, digits and `-_.~` as `%XX`.
pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 15] {
                encoded.push(char::from(if digit < 10 { b'0' + digit } else { b'A' + digit - 10 }));
            }
        }
    }
    encoded
}

/// Signs in the service's own name, puts another reader in the place of the operation's, and holds back a write whose lease has ended.
#[derive(Debug, Clone)]
struct Carried {
    name: &'static str,
    /// Where it is another than the client's.
    region: Option<&'static str>,
    fence: Option<Fence>,
    answer: Reader,
}

impl Intercept for Carried {
    fn name(&self) -> &'static str {
        "CarriedQuery"
    }

    fn read_before_execution(&self, _: &BeforeSerializationInterceptorContextRef<'_>, config: &mut ConfigBag) -> Result<(), BoxError> {
        config.interceptor_state().store_put(SigningName::from_static(self.name));
        if let Some(region) = self.region {
            config.interceptor_state().store_put(SigningRegion::from(Region::from_static(region)));
        }
        config.interceptor_state().store_put(SharedResponseDeserializer::new(self.answer.clone()));
        Ok(())
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        Ok(self.fence.as_ref().map_or(Ok(()), Fence::pass)?)
    }
}

/// Takes the bytes of a success, and the code and message of a failure.
#[derive(Clone)]
struct Reader(Arc<Mutex<Option<Bytes>>>);

impl fmt::Debug for Reader {
    /// Shows nothing of the answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl DeserializeResponse for Reader {
    fn deserialize_nonstreaming(&self, response: &HttpResponse) -> Result<Output, OrchestratorError<AnyError>> {
        let bytes = response.body().bytes().unwrap_or_default();
        if response.status().is_success() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Bytes::copy_from_slice(bytes));
            return Ok(Output::erase(DescribeAccountLimitsOutput::builder().build()));
        }
        let (code, message) = failure(bytes);
        let mut metadata = ErrorMetadata::builder();
        if let Some(code) = code {
            metadata = metadata.code(code);
        }
        if let Some(message) = message {
            metadata = metadata.message(message);
        }
        Err(OrchestratorError::operation(AnyError::erase(DescribeAccountLimitsError::generic(metadata.build()))))
    }
}

/// Code and message of a failure, in XML or JSON.
fn failure(bytes: &[u8]) -> (Option<String>, Option<String>) {
    if let Ok(root) = query_xml::read(bytes) {
        let text = |name: &str| root.descendants(name).into_iter().next().map(|node| node.text.clone());
        return (text("Code"), text("Message"));
    }
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return (None, None) };
    let text = |keys: &[&str]| keys.iter().find_map(|key| value.get(key)?.as_str()).map(str::to_owned);
    // `com.amazonaws.autoscaling#ValidationException:http://…`
    let code = text(&["__type", "code"]).map(|code| {
        let bare = code.rsplit_once('#').map_or(code.as_str(), |(_, bare)| bare);
        bare.split(':').next().unwrap_or(bare).to_owned()
    });
    (code, text(&["message", "Message"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_has_its_own_address() {
        assert_eq!(Service::Ec2.url("eu-west-1", false), "https://ec2.eu-west-1.amazonaws.com");
        assert_eq!(Service::CloudWatch.url("us-east-1", true), "https://monitoring-fips.us-east-1.amazonaws.com");
        assert_eq!(Service::Rds.url("cn-north-1", false), "https://rds.cn-north-1.amazonaws.com.cn");
        assert_eq!(Service::Iam.url("eu-west-1", false), "https://iam.amazonaws.com");
        assert_eq!(Service::Iam.url("eu-west-1", true), "https://iam-fips.amazonaws.com");
        assert_eq!(Service::Iam.url("cn-northwest-1", false), "https://iam.cn-north-1.amazonaws.com.cn");
        assert_eq!(Service::Iam.url("us-gov-east-1", false), "https://iam.us-gov.amazonaws.com");
    }

    #[test]
    fn a_form_keeps_what_would_part_it() {
        assert_eq!(encoded("shop db/1&=+é~"), "shop%20db%2F1%26%3D%2B%C3%A9~");
    }

    /// <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html> (response format),
    /// <https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/CommonErrors.html>
    #[test]
    fn a_failure_is_read_in_each_protocol() {
        let ec2 = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized</Message></Error></Errors>\
                   <RequestID>1</RequestID></Response>";
        assert_eq!(failure(ec2.as_bytes()), (Some("UnauthorizedOperation".to_owned()), Some("You are not authorized".to_owned())));
        let rds = "<ErrorResponse><Error><Type>Sender</Type><Code>DBInstanceNotFound</Code><Message>no &quot;x&quot;</Message></Error>\
                   </ErrorResponse>";
        assert_eq!(failure(rds.as_bytes()), (Some("DBInstanceNotFound".to_owned()), Some("no \"x\"".to_owned())));
        let json = br#"{"__type":"com.amazonaws#AccessDeniedException:http://x","Message":"no"}"#;
        assert_eq!(failure(json), (Some("AccessDeniedException".to_owned()), Some("no".to_owned())));
        assert_eq!(failure(b"upstream gone"), (None, None));
    }
}
