//! Where a service's images lie: may their tags move, and are they looked through for known holes?

use crate::aws::Aws;
use crate::config::{Image, Service};

use super::{Sheet, see};

const TAGS: &str = "image-tags";

/// Looks at the repository that windlass pushes to. Of images that are built elsewhere it knows no repository of this account's.
pub(super) async fn inspect(aws: &Aws, service: &Service, sheet: &mut Sheet) {
    let Image::Build(image) = &service.image else { return };
    let name = image.repository.as_str();
    let repository = match see(aws.repository(name)).await {
        Ok(Some(repository)) => repository,
        Ok(None) => return sheet.unseen(TAGS, format!("there is no repository `{name}`")),
        Err(why) => return sheet.unseen(TAGS, why),
    };
    if repository.immutable {
        sheet.ok(TAGS, format!("no tag of `{name}` ever moves"));
    } else {
        let seen = format!("the tags of `{name}` may be moved to other images (windlass runs images by their digests all the same)");
        sheet.warn(TAGS, seen, "make its tags immutable (`aws ecr put-image-tag-mutability`)");
    }
    if repository.scans {
        sheet.ok("image-scan", format!("what is pushed to `{name}` is looked through for known holes"));
    } else {
        let seen = format!("what is pushed to `{name}` is not looked through, unless the registry does it for all");
        sheet.warn("image-scan", seen, "turn on scanning on push, or enhanced scanning for the registry");
    }
}
