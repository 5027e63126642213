//! Whether files import only what lies below them, and none imports another that imports it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The layers, from the disk up. Files of a place import from the places before it, and from their own.
const LAYERS: [&[&str]; 7] = [
    &["storage"],
    &["format"],
    &["index"],
    &["repository"],
    // These two do not know each other.
    &["read", "snapshots"],
    &["write"],
    &["maintain"],
];

type Imports = BTreeMap<String, BTreeSet<String>>;

/// The number of the layer that a file lies in; `None` if it is a word, which everybody may use.
fn layer_of(file: &str) -> Option<usize> {
    let folder = file.split('/').next()?;
    LAYERS.iter().position(|layer| layer.contains(&folder))
}

/// The paths that a `use` names, one for each leaf.
fn leaves(tree: &str) -> Vec<String> {
    let Some((before, inside)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inside = inside.trim_end().trim_end_matches('}');
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for letter in inside.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        match letter {
            ',' if depth == 0 => parts.push(String::new()),
            letter => parts.last_mut().unwrap().push(letter),
        }
    }
    let parts = parts.iter().filter(|part| !part.trim().is_empty());
    parts.flat_map(|part| leaves(part)).map(|leaf| format!("{}{leaf}", before.trim())).collect()
}

/// Adds to `imports` what the file called `name`, of which `text` is the source, imports of `files`. Its tests may import anything.
fn add_imports(name: &str, text: &str, files: &BTreeSet<String>, imports: &mut Imports) {
    let source = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    for used in source.split("\nuse ").skip(1).filter_map(|rest| rest.split(';').next()) {
        for leaf in leaves(used) {
            let Some(path) = leaf.strip_prefix("crate::") else { continue };
            let mut file = path.replace("::", "/");
            while !files.contains(&file) && file.contains('/') {
                file.truncate(file.rfind('/').unwrap());
            }
            // What lies in the folder of a file is a part of that file.
            let whole = |file: &str| file.split('/').take(2).collect::<Vec<_>>().join("/");
            if files.contains(&file) && whole(&file) != whole(name) {
                imports.entry(whole(name)).or_default().insert(whole(&file));
            }
        }
    }
}

fn add_files(folder: &Path, root: &Path, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            add_files(&path, root, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().with_extension("").to_str().unwrap().replace('\\', "/");
            sources.insert(name, fs::read_to_string(path).unwrap());
        }
    }
}

/// The faults of the imports: those that point upward, and circles.
fn faults(sources: &BTreeMap<String, String>) -> Vec<String> {
    let files: BTreeSet<String> = sources.keys().cloned().collect();
    let mut imports = Imports::new();
    for (name, text) in sources.iter().filter(|(name, _)| !name.starts_with("testing") && *name != "lib") {
        add_imports(name, text, &files, &mut imports);
    }
    let mut faults = Vec::new();
    for (name, imported) in &imports {
        for other in imported {
            let (from, to) = (layer_of(name), layer_of(other));
            let folder = |file: &str| file.split('/').next().map(str::to_owned);
            if to > from || to == from && from.is_some() && folder(name) != folder(other) {
                faults.push(format!("{name} imports {other}"));
            }
        }
    }
    // Files that import nothing, or only what was taken away, are taken away; what stays runs in a circle.
    let mut left = imports;
    loop {
        let ends: Vec<String> = left
            .iter()
            .filter(|(_, of)| of.iter().all(|of| !left.contains_key(of)))
            .map(|(name, _)| name.clone())
            .collect();
        if ends.is_empty() {
            break;
        }
        ends.iter().for_each(|end| drop(left.remove(end)));
    }
    faults.extend(left.keys().map(|name| format!("{name} imports in a circle")));
    faults
}

fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::new();
    add_files(&root, &root, &mut sources);
    sources
}

#[test]
fn imports_point_down_and_in_no_circle() {
    assert_eq!(faults(&sources()), [""; 0]);
}

#[test]
fn import_upward_or_in_a_circle_is_found() {
    for (name, line, fault) in [
        ("format/seal", "use crate::index::Index;\n", "format/seal imports index"),
        ("snapshots/pins", "use crate::{read::diff::Diff};\n", "snapshots/pins imports read/diff"),
        ("format/codec", "use crate::format::{pack::Pack};\n", "format/codec imports in a circle"),
        ("clock", "use crate::storage::Storage;\n", "clock imports storage"),
    ] {
        let mut sources = sources();
        sources.get_mut(name).unwrap().insert_str(0, &format!("\n{line}"));
        let found = faults(&sources);
        assert!(found.iter().any(|found| found == fault), "{line}: {found:?}");
    }
}
