//! Whether a repository is made by mistake where a disk is not mounted.

use std::path::Path;

use crate::support::program::Home;

/// Below a folder in which disks appear; there is none of this name.
const PLACE: &str = "/media/heirloom-no-such-disk/phones";

#[cfg(target_os = "linux")]
#[test]
fn init_asks_where_no_disk_is_mounted() {
    let home = Home::empty();
    let init = ["--repo", PLACE, "init", "--no-password"];
    if let Some(said) = home.typed(&[("NO_COLOR", "1")], &init, &["no"]) {
        said.assert_failed(1, &["not confirmed", "mount the disk", "--yes"]);
        assert!(said.stdout.contains("on a disk that is not mounted"), "{said:?}");
    }
    // Whoever may not write there does not make it, and is warned before.
    let said = home.run_as_nobody(&[], &init);
    assert!(said.exit == 1 && said.stderr.starts_with("warning: ") && said.stderr.contains("not mounted"), "{said:?}");
    let said = home.run_as_nobody(&[], &[&init[..], &["--yes"]].concat());
    assert!(said.exit == 1 && !said.stderr.contains("warning: "), "{said:?}");
    assert!(!Path::new(PLACE).exists() && !Path::new(PLACE).parent().unwrap().exists());
    assert!(!home.ok(&["init", "--no-password"]).stderr.contains("warning"));
}
