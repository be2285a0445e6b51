//! One recorded request: which operation it is, as well as can be told from outside, and whether it changes anything.

use hyper::http::request::Parts;

/// One recorded request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// `GET`.
    pub(crate) method: String,
    /// As it was sent, percent-encoded: `/shop-web/a%20b.html`.
    pub(crate) path: String,
    /// Without its `?`.
    pub(crate) query: String,
    /// The `Host` header.
    pub(crate) host: String,
    /// The `X-Amz-Target` header of the JSON protocols: `AmazonEC2ContainerServiceV20141113.UpdateService`.
    pub(crate) target: Option<String>,
    /// `s3:PutObject`, `ecs:UpdateService`, `registry:PUT`, `page:GET` for what is not signed.
    pub(crate) operation: String,
    /// Does it change anything? An operation that nobody knows does.
    pub(crate) is_write: bool,
    /// The header of its condition: `If-None-Match` or `If-Match`.
    pub(crate) condition: Option<&'static str>,
    /// The body, in which a test may look for a name.
    pub(crate) body: String,
}

impl Recorded {
    pub(crate) fn new(parts: &Parts, body: &[u8]) -> Self {
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let method = parts.method.as_str().to_owned();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let target = header("x-amz-target");
        let body = String::from_utf8_lossy(body).into_owned();
        let service = header("authorization").and_then(|text| service(&text));
        let copies = parts.headers.contains_key("x-amz-copy-source");
        let (operation, is_write) = match (service.as_deref(), &target) {
            _ if path == "/v2" || path.starts_with("/v2/") => {
                (format!("registry:{method}"), matches!(method.as_str(), "PUT" | "POST" | "PATCH" | "DELETE"))
            }
            (Some(service), Some(target)) => {
                let action = target.rsplit('.').next().unwrap_or_default();
                (format!("{service}:{action}"), !reads(action))
            }
            (Some("s3"), None) => {
                let action = s3(&method, &path, &query, copies);
                (format!("s3:{action}"), !matches!(method.as_str(), "GET" | "HEAD"))
            }
            (Some("lambda"), None) => (format!("lambda:{}", lambda(&method, &path)), !matches!(method.as_str(), "GET" | "HEAD")),
            (Some("cloudfront"), None) => {
                (format!("cloudfront:{}", cloudfront(&method, &path)), !matches!(method.as_str(), "GET" | "HEAD"))
            }
            (Some(service), None) => {
                let action = form_action(&body).unwrap_or(&method);
                (format!("{service}:{action}"), !(reads(action) || action.starts_with("AssumeRole")))
            }
            (None, _) => (format!("page:{method}"), !matches!(method.as_str(), "GET" | "HEAD")),
        };
        let host = header("host").unwrap_or_default();
        let condition = ["If-None-Match", "If-Match"].into_iter().find(|name| parts.headers.contains_key(*name));
        Self { method, path, query, host, target, operation, is_write, condition, body }
    }
}

/// The service that a request is signed for: `AWS4-HMAC-SHA256 Credential=ID/20261121/us-east-1/s3/aws4_request, …`
fn service(authorization: &str) -> Option<String> {
    let scope = authorization.split_once("Credential=")?.1.split(',').next()?;
    scope.split('/').nth(3).map(str::to_owned)
}

fn reads(action: &str) -> bool {
    ["Get", "Describe", "List", "BatchGet", "BatchCheck", "Filter"].iter().any(|prefix| action.starts_with(prefix))
}

fn form_action(body: &str) -> Option<&str> {
    body.split('&').find_map(|pair| pair.strip_prefix("Action="))
}

fn s3(method: &str, path: &str, query: &str, copies: bool) -> &'static str {
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let is_bucket = path.trim_matches('/').split('/').count() < 2;
    match (method, is_bucket) {
        ("GET", _) if path == "/" => "ListBuckets",
        ("GET", true) if has("publicAccessBlock") => "GetPublicAccessBlock",
        ("GET", true) if has("policyStatus") => "GetBucketPolicyStatus",
        ("GET", true) if has("acl") => "GetBucketAcl",
        ("GET", true) if has("website") => "GetBucketWebsite",
        ("GET", true) => "ListObjectsV2",
        ("HEAD", true) => "HeadBucket",
        ("PUT", true) if has("publicAccessBlock") => "PutPublicAccessBlock",
        ("PUT", true) => "CreateBucket",
        ("GET", false) => "GetObject",
        ("HEAD", false) => "HeadObject",
        ("PUT", false) if copies => "CopyObject",
        ("PUT", false) => "PutObject",
        ("DELETE", false) => "DeleteObject",
        _ => "Unknown",
    }
}

fn lambda(method: &str, path: &str) -> &'static str {
    match (method, path.rsplit('/').next().unwrap_or_default()) {
        ("POST", "invocations") => "Invoke",
        ("POST", "versions") => "PublishVersion",
        ("PUT", "code") => "UpdateFunctionCode",
        ("PUT", "configuration") => "UpdateFunctionConfiguration",
        ("GET", "configuration") => "GetFunctionConfiguration",
        ("GET", _) => "GetFunction",
        _ => "Unknown",
    }
}

fn cloudfront(method: &str, path: &str) -> &'static str {
    match (method, path.contains("/invalidation")) {
        ("POST", true) => "CreateInvalidation",
        ("GET", true) => "GetInvalidation",
        ("GET", false) => "GetDistribution",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn recorded(method: &str, uri: &str, service: &str, target: &str, body: &str) -> (String, bool) {
        let mut request = Request::builder().method(method).uri(uri);
        if !service.is_empty() {
            request =
                request.header("authorization", format!("AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/{service}/aws4_request, x"));
        }
        if !target.is_empty() {
            request = request.header("x-amz-target", target);
        }
        let recorded = Recorded::new(&request.body(()).unwrap().into_parts().0, body.as_bytes());
        (recorded.operation, recorded.is_write)
    }

    #[test]
    fn a_request_is_named_and_known_to_write_or_not() {
        for (method, uri, service, target, body, operation, is_write) in [
            ("PUT", "/shop-web/index.html?x-id=PutObject", "s3", "", "", "s3:PutObject", true),
            ("GET", "/shop-web?list-type=2&prefix=a%2F", "s3", "", "", "s3:ListObjectsV2", false),
            ("GET", "/shop-web?policyStatus", "s3", "", "", "s3:GetBucketPolicyStatus", false),
            ("HEAD", "/shop-web/a", "s3", "", "", "s3:HeadObject", false),
            ("DELETE", "/shop-web/a?x-id=DeleteObject", "s3", "", "", "s3:DeleteObject", true),
            ("POST", "/", "ecs", "AmazonEC2ContainerServiceV20141113.UpdateService", "{}", "ecs:UpdateService", true),
            ("POST", "/", "ecs", "AmazonEC2ContainerServiceV20141113.DescribeServices", "{}", "ecs:DescribeServices", false),
            (
                "POST",
                "/",
                "ecr",
                "AmazonEC2ContainerRegistry_V20150921.BatchCheckLayerAvailability",
                "{}",
                "ecr:BatchCheckLayerAvailability",
                false,
            ),
            ("POST", "/", "sts", "", "Action=GetCallerIdentity&Version=2011-06-15", "sts:GetCallerIdentity", false),
            ("POST", "/", "sts", "", "Action=AssumeRole&Version=2011-06-15", "sts:AssumeRole", false),
            ("POST", "/2015-03-31/functions/shop-migrate/invocations", "lambda", "", "{}", "lambda:Invoke", true),
            ("GET", "/2015-03-31/functions/shop-migrate", "lambda", "", "", "lambda:GetFunction", false),
            ("PUT", "/2015-03-31/functions/shop-migrate/code", "lambda", "", "{}", "lambda:UpdateFunctionCode", true),
            ("POST", "/2020-05-31/distribution/E1/invalidation", "cloudfront", "", "", "cloudfront:CreateInvalidation", true),
            ("GET", "/2020-05-31/distribution/E1/invalidation/I1", "cloudfront", "", "", "cloudfront:GetInvalidation", false),
            ("PATCH", "/v2/shop/api/blobs/uploads/1", "", "", "", "registry:PATCH", true),
            ("HEAD", "/v2/shop/api/manifests/v1", "", "", "", "registry:HEAD", false),
            ("GET", "/", "", "", "", "page:GET", false),
        ] {
            assert_eq!(recorded(method, uri, service, target, body), (operation.to_owned(), is_write), "{method} {uri}");
        }
    }
}
