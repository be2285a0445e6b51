//! Users and programs by their names.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A user of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The user's id.
    pub uid: u32,
    /// The id of the user's own group.
    pub gid: u32,
}

impl User {
    /// The user of this name or number in `/etc/passwd`; directories elsewhere are not asked.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::find_in(&std::fs::read_to_string("/etc/passwd").ok()?, name)
    }

    fn find_in(table: &str, name: &str) -> Option<Self> {
        table.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (own, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            (own == name || uid == name).then_some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
        })
    }

    /// Is it the user that this process runs as?
    #[must_use]
    pub fn is_own(self) -> bool {
        rustix::process::geteuid().as_raw() == self.uid
    }

    /// May this process run others as any user?
    #[must_use]
    pub fn may_change() -> bool {
        rustix::process::geteuid().is_root()
    }
}

/// A program: as it is named if the name has a `/`, else where `path`, the text of a `PATH`, has it.
#[must_use]
pub fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    let runs = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| runs(path));
    }
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|path| runs(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let table = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:100::/home/ada:/bin/sh\nbroken\n";
        assert_eq!(User::find_in(table, "ada"), Some(User { uid: 1000, gid: 100 }));
        assert_eq!(User::find_in(table, "1000"), Some(User { uid: 1000, gid: 100 }));
        assert_eq!(User::find_in(table, "bob"), None);
    }

    #[test]
    fn a_program_is_looked_for_where_the_path_says() {
        assert!(find_program("sh", OsStr::new("/nowhere:/bin")).is_some());
        assert_eq!(find_program("sh", OsStr::new("/nowhere")), None);
        assert_eq!(find_program("/etc/passwd", OsStr::new("/bin")), None);
    }
}
