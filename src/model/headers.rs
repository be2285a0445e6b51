//! Headers of which there are few, and which tens of thousands of objects have.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Headers;

/// So many are remembered: a site has a dozen.
const MOST: usize = 64;

thread_local! {
    static KNOWN: RefCell<Vec<SharedHeaders>> = const { RefCell::new(Vec::new()) };
}

/// Headers that are in memory once, however many objects have them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SharedHeaders(Arc<Headers>);

impl From<Headers> for SharedHeaders {
    fn from(headers: Headers) -> Self {
        KNOWN.with_borrow_mut(|known| {
            if let Some(at) = known.iter().position(|one| **one == headers) {
                return known[at].clone();
            }
            let new = Self(Arc::new(headers));
            if known.len() < MOST {
                known.push(new.clone());
            }
            new
        })
    }
}

impl Deref for SharedHeaders {
    type Target = Headers;

    fn deref(&self) -> &Headers {
        &self.0
    }
}

impl DerefMut for SharedHeaders {
    fn deref_mut(&mut self) -> &mut Headers {
        Arc::make_mut(&mut self.0)
    }
}

impl Serialize for SharedHeaders {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for SharedHeaders {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Headers::deserialize(from).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_headers_are_one_until_one_of_them_changes() {
        let one = || SharedHeaders::from(Headers::of("text/html", "no-cache"));
        let (a, mut b) = (one(), one());
        assert!(Arc::ptr_eq(&a.0, &b.0));
        b.cache_control = "no-store".into();
        assert_eq!((&*a.cache_control, &*b.cache_control, &*one().cache_control), ("no-cache", "no-store", "no-cache"));
    }
}
