//! Folders that another program keeps the same on several computers, such as Dropbox: no place for a repository (SPEC
//! 2).

use std::path::{Component, Path, PathBuf};

/// Files and folders that such a program leaves in the folder that it keeps, or in one above.
const TRACES: [(&str, &str); 4] = [
    (".dropbox.cache", "Dropbox"),
    (".stfolder", "Syncthing"),
    (".nextcloudsync.log", "Nextcloud"),
    (".sync", "Resilio Sync"),
];

/// The program that keeps the folder `dir` the same on several computers, as far as its path and what lies above it
/// tell.
pub fn synced_by(dir: &Path) -> Option<String> {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    // What it is below, by its true name, where it does not exist itself.
    let existing = dir.ancestors().find_map(|above| above.canonicalize().ok());
    let paths: Vec<PathBuf> = existing.into_iter().chain([dir]).collect();
    paths.iter().find_map(|path| by_name(path).or_else(|| by_traces(path)))
}

/// Warns of a repository in such a folder.
pub fn not_in_a_synced_folder(program: &str) -> String {
    format!(
        "{program} copies this folder to other computers, each of which has another state of it: that is not supported, and may lose snapshots where two of them are at work. Take a folder that it leaves alone"
    )
}

fn by_name(path: &Path) -> Option<String> {
    let parts: Vec<String> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(part) => Some(part.to_string_lossy().to_lowercase()),
            _ => None,
        })
        .collect();
    let is_called = |part: &str, name: &str| {
        part.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '-', '(']))
    };
    parts.iter().enumerate().find_map(|(number, part)| {
        let below_library = number > 0 && parts[number - 1] == "library";
        let name = match part.as_str() {
            "mobile documents" if below_library => "iCloud Drive",
            "iclouddrive" => "iCloud Drive",
            "cloudstorage" if below_library && number + 1 < parts.len() => {
                return parts[number + 1].split('-').next().map(as_it_is_called);
            }
            part if is_called(part, "dropbox") => "Dropbox",
            part if is_called(part, "onedrive") => "OneDrive",
            _ => return None,
        };
        Some(name.to_owned())
    })
}

/// The name of a program by how its folder begins.
fn as_it_is_called(folder: &str) -> String {
    match folder {
        "onedrive" => "OneDrive",
        "googledrive" => "Google Drive",
        "dropbox" => "Dropbox",
        "box" => "Box",
        other => return other.to_owned(),
    }
    .to_owned()
}

fn by_traces(path: &Path) -> Option<String> {
    path.ancestors().find_map(|above| {
        let trace = TRACES.iter().find(|(trace, _)| above.join(trace).exists());
        // In the home folder a folder of this name is the program's own.
        let is_dropbox = above.join(".dropbox").is_file();
        trace.map(|(_, program)| *program).or(is_dropbox.then_some("Dropbox")).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn folders_of_such_programs_are_known_by_name() {
        let known = [
            ("/home/maria/Dropbox/phones", "Dropbox"),
            ("/Users/maria/Dropbox (Personal)/phones", "Dropbox"),
            ("/Users/maria/Library/Mobile Documents/com~apple~CloudDocs/phones", "iCloud Drive"),
            ("/c/Users/maria/iCloudDrive/phones", "iCloud Drive"),
            ("/c/Users/maria/OneDrive - Contoso/phones", "OneDrive"),
            ("/Users/maria/Library/CloudStorage/OneDrive-Personal/phones", "OneDrive"),
            ("/Users/maria/Library/CloudStorage/GoogleDrive-maria@example.org/My Drive", "Google Drive"),
        ];
        for (path, program) in known {
            assert_eq!(synced_by(Path::new(path)).as_deref(), Some(program), "{path}");
        }
        for path in ["/mnt/disk/phones", "/home/maria/dropboxes/x", "/srv/Mobile Documents/x", "/Library/CloudStorage"]
        {
            assert_eq!(by_name(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn folders_of_such_programs_are_known_by_traces() {
        for (trace, program) in TRACES.into_iter().chain([(".dropbox", "Dropbox")]) {
            let dir = tempfile::tempdir().unwrap();
            let deep = dir.path().join("a/b");
            assert_eq!(synced_by(&deep), None);
            fs::write(dir.path().join(trace), b"").unwrap();
            assert_eq!(synced_by(&deep).as_deref(), Some(program), "{trace}, though it does not exist yet");
        }
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".dropbox")).unwrap();
        assert_eq!(synced_by(home.path()), None, "what the program has for itself");
    }
}
