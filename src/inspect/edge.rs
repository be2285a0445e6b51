//! A distribution: what reaches it, what it reaches, and whether both are guarded.

use crate::aws::{Aws, Behaviour, Edge, EdgeOrigin};
use crate::config::Config;

use super::network::some;
use super::{Sheet, functions, grants, see};

/// A distribution, for what stands behind it.
#[derive(Debug)]
pub(super) struct Front {
    pub(super) id: String,
    pub(super) arn: String,
    /// How it reads the site's bucket.
    pub(super) signs: Signs,
    pub(super) origins: Vec<EdgeOrigin>,
}

/// How requests to a bucket are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signs {
    /// By origin access control.
    Control,
    /// By an origin access identity.
    Identity,
    /// Not at all.
    Not,
}

/// Looks at the distribution in front of `bucket`.
pub(super) async fn inspect(aws: &Aws, id: &str, bucket: &str, config: &Config, sheet: &mut Sheet) -> Option<Front> {
    let edge = match see(aws.edge(id)).await {
        Ok(Some(edge)) => edge,
        Ok(None) => {
            sheet.unseen("site-behind-cdn", format!("there is no distribution `{id}` in this account"));
            return None;
        }
        Err(why) => {
            for check in ["site-behind-cdn", "viewer-tls", "waf"] {
                sheet.unseen(check, why.clone());
            }
            return None;
        }
    };
    let bears = |origin: &&EdgeOrigin| origin.domain.split('.').next() == Some(bucket) || origin.domain.starts_with(&format!("{bucket}."));
    // A server of one's own may have a name that begins like the bucket's.
    let of_s3 = |origin: &&EdgeOrigin| origin.is_bucket() || origin.is_website();
    let own = edge.origins.iter().filter(of_s3).find(bears).or_else(|| edge.origins.iter().find(bears));
    served(&edge, id, bucket, own, sheet);
    viewers(&edge, id, sheet);
    firewall(&edge, id, sheet);
    interfaces(&edge, config, sheet);
    order(&edge, sheet);
    functions::inspect(aws, &edge, config, sheet).await;
    let signs = match own {
        Some(origin) if origin.access_control => Signs::Control,
        Some(origin) if origin.access_identity => Signs::Identity,
        _ => Signs::Not,
    };
    if signs == Signs::Not && own.is_some_and(|origin| !origin.is_website()) {
        let seen = format!("the distribution `{id}` reads `{bucket}` without signing, which only a public bucket answers");
        sheet.fail("bucket-origin-access", seen, "give the origin an origin access control, and allow it in the bucket's policy");
    }
    Some(Front { id: id.to_owned(), arn: edge.arn, signs, origins: edge.origins })
}

fn served(edge: &Edge, id: &str, bucket: &str, own: Option<&EdgeOrigin>, sheet: &mut Sheet) {
    const CHECK: &str = "site-behind-cdn";
    let Some(origin) = own else {
        let origins: Vec<&str> = edge.origins.iter().map(|origin| origin.domain.as_str()).collect();
        let seen = format!("the distribution `{id}` has no origin in `{bucket}`; it has {}", some(&origins));
        return sheet.fail(CHECK, seen, "add the bucket as an origin, or correct `distribution`");
    };
    let paths: Vec<&str> =
        edge.behaviours.iter().filter(|behaviour| behaviour.origin == origin.id).map(|behaviour| behaviour.path.as_str()).collect();
    if paths.is_empty() {
        let seen = format!("no behaviour of the distribution `{id}` leads to `{bucket}`");
        return sheet.fail(CHECK, seen, "add a behaviour for the site's paths, or make the bucket the default's origin");
    }
    if !edge.enabled {
        return sheet.fail(CHECK, format!("the distribution `{id}` is turned off"), "turn it on");
    }
    sheet.ok(CHECK, format!("the distribution `{id}` serves {} out of `{bucket}`", some(&paths)));
}

fn viewers(edge: &Edge, id: &str, sheet: &mut Sheet) {
    const CHECK: &str = "viewer-tls";
    let plain: Vec<&str> =
        edge.behaviours.iter().filter(|behaviour| behaviour.viewer == "allow-all").map(|behaviour| behaviour.path.as_str()).collect();
    if !plain.is_empty() {
        let seen = format!("the distribution `{id}` serves {} without TLS, too", some(&plain));
        return sheet.fail(CHECK, seen, "set the viewer protocol policy of these behaviours to `redirect-to-https`");
    }
    match edge.minimum_protocol.as_deref() {
        None if edge.aliases.is_empty() => sheet.ok(CHECK, "every path is served with TLS alone, under CloudFront's own name"),
        Some(version) if version.starts_with("TLSv1.2") || version.starts_with("TLSv1.3") => {
            sheet.ok(CHECK, format!("every path is served with TLS alone, from {version} on"));
        }
        version => {
            let seen = format!(
                "every path is served with TLS alone, but old versions are accepted ({})",
                version.unwrap_or("the default certificate's")
            );
            sheet.warn(CHECK, seen, "set the minimum protocol version to `TLSv1.2_2021` or later");
        }
    }
}

/// A web ACL for CloudFront is global: its ARN says so.
///
/// <https://docs.aws.amazon.com/waf/latest/developerguide/cloudfront-features.html>
fn firewall(edge: &Edge, id: &str, sheet: &mut Sheet) {
    const CHECK: &str = "waf";
    let cure = "attach a web ACL of scope CLOUDFRONT (it lives in us-east-1), with AWS's managed rules and a rate limit";
    match edge.web_acl.as_deref() {
        None => sheet.warn(CHECK, format!("no web ACL stands in front of the distribution `{id}`"), cure),
        Some(acl) if acl.starts_with("arn:") && !acl.contains(":global/webacl/") => {
            sheet.warn(CHECK, format!("`{acl}` is no web ACL for CloudFront"), cure);
        }
        Some(acl) => {
            let name = acl.split("/webacl/").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or(acl);
            sheet.ok(CHECK, format!("the web ACL `{name}` stands in front of the distribution `{id}`"));
        }
    }
}

/// Where the distribution sends what is not the site's: to services.
fn interfaces(edge: &Edge, config: &Config, sheet: &mut Sheet) {
    const CHECK: &str = "api-behind-cdn";
    if config.services.is_empty() {
        return;
    }
    let ids: Vec<&str> = edge.origins.iter().filter(|origin| is_server(origin)).map(|origin| origin.id.as_str()).collect();
    let paths: Vec<&str> = edge
        .behaviours
        .iter()
        .filter(|behaviour| ids.contains(&behaviour.origin.as_str()))
        .map(|behaviour| behaviour.path.as_str())
        .collect();
    if paths.is_empty() {
        let cure = "add the load balancer as an origin, with a behaviour for the services' paths: one name, one TLS, one web ACL for all";
        return sheet.warn(CHECK, "the distribution sends nothing to a load balancer: services have another way in", cure);
    }
    sheet.ok(CHECK, format!("the distribution sends {} to a load balancer", some(&paths)));
    let plain: Vec<&str> = edge
        .origins
        .iter()
        .filter(|origin| is_server(origin) && !origin.in_vpc && origin.protocol.as_deref() != Some("https-only"))
        .map(|origin| origin.domain.as_str())
        .collect();
    if plain.is_empty() {
        sheet.ok("origin-tls", "CloudFront speaks TLS to the load balancer, or reaches it inside its VPC");
    } else {
        let cure = "give the load balancer an HTTPS listener with a certificate for the origin's name, and set `https-only`";
        sheet.warn("origin-tls", format!("CloudFront may speak to {} without TLS", some(&plain)), cure);
    }
}

/// CloudFront takes the first behaviour whose pattern fits: what a wider one stands before is never reached.
///
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/DownloadDistValuesCacheBehavior.html#DownloadDistValuesPathPattern>
fn order(edge: &Edge, sheet: &mut Sheet) {
    let bare = |path: &str| path.trim_start_matches('/').to_owned();
    for (at, late) in edge.behaviours.iter().enumerate() {
        // A pattern that fits another one's text, stars and all, fits whatever that one fits.
        let hidden = |early: &&Behaviour| early.origin != late.origin && grants::matches(&bare(&early.path), &bare(&late.path));
        if let Some(early) = edge.behaviours[..at].iter().find(hidden).filter(|_| late.path != "*") {
            let seen = format!("`{}` is never reached: `{}` stands before it and leads elsewhere", late.path, early.path);
            sheet.warn("behaviour-order", seen, "put the narrower path first");
        }
    }
}

/// Neither a bucket nor a function.
pub(super) fn is_server(origin: &EdgeOrigin) -> bool {
    !origin.is_bucket() && !origin.is_website() && !origin.is_function()
}
