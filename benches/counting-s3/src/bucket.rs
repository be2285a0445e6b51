//! The operations on buckets, all of which exist, are private, and hold no settings.

use hyper::StatusCode;

use crate::answer::{Answer, Refusal, empty, encoded, escaped, iso_date, set, xml};
use crate::ledger::Entry;
use crate::request::S3Request;
use crate::store::Store;

type Operation = (&'static str, fn(&mut Store, &S3Request, &mut Entry) -> Result<Answer, Refusal>);

/// STS's `GetCallerIdentity`, for clients that send everything to one address.
pub fn identity(_: &mut Store, _: &S3Request, _: &mut Entry) -> Result<Answer, Refusal> {
    Ok(xml(concat!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>",
        "<Arn>arn:aws:iam::111111111111:user/benchmark</Arn><UserId>AIDAEXAMPLE</UserId><Account>111111111111</Account>",
        "</GetCallerIdentityResult><ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
    )))
}

/// `ListBuckets`: as none was ever made, there is none to name.
pub fn list_buckets(_: &mut Store, _: &S3Request, _: &mut Entry) -> Result<Answer, Refusal> {
    Ok(xml("<ListAllMyBucketsResult><Owner><ID>0</ID></Owner><Buckets></Buckets></ListAllMyBucketsResult>"))
}

/// `HeadBucket`.
pub fn head(_: &mut Store, _: &S3Request, _: &mut Entry) -> Result<Answer, Refusal> {
    let mut answer = empty(StatusCode::OK);
    set(&mut answer, "x-amz-bucket-region", "us-east-1");
    Ok(answer)
}

/// `CreateBucket`.
pub fn create(_: &mut Store, _: &S3Request, _: &mut Entry) -> Result<Answer, Refusal> {
    Ok(empty(StatusCode::OK))
}

/// The question about a bucket's settings that the query asks, if it asks one.
pub fn question(request: &S3Request) -> Option<Operation> {
    let asked = QUESTIONS.iter().find(|(parameter, ..)| request.asks(parameter));
    asked.map(|&(_, name, answer)| (name, answer))
}

type Question = (&'static str, &'static str, fn(&mut Store, &S3Request, &mut Entry) -> Result<Answer, Refusal>);

const QUESTIONS: [Question; 9] = [
    ("publicAccessBlock", "GetPublicAccessBlock", |_, _, _| {
        Ok(xml(concat!(
            "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls>",
            "<BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>"
        )))
    }),
    ("policyStatus", "GetBucketPolicyStatus", |_, _, _| Ok(xml("<PolicyStatus><IsPublic>false</IsPublic></PolicyStatus>"))),
    ("acl", "GetBucketAcl", |_, _, _| {
        Ok(xml(concat!(
            "<AccessControlPolicy><Owner><ID>0</ID></Owner><AccessControlList><Grant>",
            "<Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"><ID>0</ID></Grantee>",
            "<Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>"
        )))
    }),
    ("website", "GetBucketWebsite", |_, _, _| Err(Refusal(StatusCode::NOT_FOUND, "NoSuchWebsiteConfiguration"))),
    ("policy", "GetBucketPolicy", |_, _, _| Err(Refusal(StatusCode::NOT_FOUND, "NoSuchBucketPolicy"))),
    ("versioning", "GetBucketVersioning", |_, _, _| Ok(xml("<VersioningConfiguration></VersioningConfiguration>"))),
    ("location", "GetBucketLocation", |_, _, _| Ok(xml("<LocationConstraint></LocationConstraint>"))),
    ("encryption", "GetBucketEncryption", |_, _, _| Err(Refusal(StatusCode::NOT_FOUND, "ServerSideEncryptionConfigurationNotFoundError"))),
    ("uploads", "ListMultipartUploads", |_, _, _| Ok(xml("<ListMultipartUploadsResult></ListMultipartUploadsResult>"))),
];

/// `ListObjectsV2`, and the first version, which differs in what it calls the place to go on from.
pub fn list(store: &mut Store, request: &S3Request, _: &mut Entry) -> Result<Answer, Refusal> {
    let second = request.parameter("list-type") == "2";
    let bucket = request.place.bucket.as_str();
    let (prefix, delimiter) = (request.parameter("prefix"), request.parameter("delimiter"));
    let most = request.parameter("max-keys").parse().unwrap_or(1000).min(1000);
    let in_url = request.parameter("encoding-type") == "url";
    let shown = |key: &str| if in_url { encoded(key) } else { escaped(key) };
    let after = match second {
        true if request.asks("continuation-token") => request.parameter("continuation-token"),
        true => request.parameter("start-after"),
        false => request.parameter("marker"),
    };
    let mut contents = String::new();
    let mut folders = String::new();
    let mut folder = after.to_owned();
    let mut count = 0;
    let mut last = "";
    let mut truncated = false;
    for (place, object) in store.objects(bucket, after.max(prefix)) {
        let key = place.key.as_str();
        let Some(below) = key.strip_prefix(prefix) else { break };
        let ends = if delimiter.is_empty() { None } else { below.find(delimiter).map(|at| prefix.len() + at + delimiter.len()) };
        let name = ends.map_or(key, |end| &key[..end]);
        // A folder is one line, however much is in it, and stands for all of it when a listing goes on after it.
        if (!after.is_empty() && name <= after) || (ends.is_some() && name == folder) {
            continue;
        }
        if count == most {
            truncated = true;
            break;
        }
        count += 1;
        last = name;
        if ends.is_some() {
            name.clone_into(&mut folder);
            folders += &format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", shown(name));
        } else {
            contents += &format!(
                "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                shown(key),
                iso_date(object.modified),
                object.etag,
                object.size()
            );
        }
    }
    let mut head = format!("<Name>{bucket}</Name><Prefix>{}</Prefix><MaxKeys>{most}</MaxKeys>", shown(prefix));
    head += &format!("<IsTruncated>{truncated}</IsTruncated>");
    if !delimiter.is_empty() {
        head += &format!("<Delimiter>{}</Delimiter>", shown(delimiter));
    }
    if in_url {
        head += "<EncodingType>url</EncodingType>";
    }
    if second {
        head += &format!("<KeyCount>{count}</KeyCount>");
    }
    if truncated {
        // A token is opaque and never encoded; a marker is a key.
        let (element, value) = if second { ("NextContinuationToken", escaped(last)) } else { ("NextMarker", shown(last)) };
        head += &format!("<{element}>{value}</{element}>");
    }
    Ok(xml(format!("<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{head}{contents}{folders}</ListBucketResult>")))
}
