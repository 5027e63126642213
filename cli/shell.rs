//! `completions` and `man`: what the command line says of itself, for shells and for man(1).

use std::fs;

use clap::CommandFactory;
use clap_mangen::Man as Page;

use crate::{
    args::{Arguments, Completions, Man},
    failure::{Exit, Failure, Result},
    report::{Report, of_many},
};

pub fn completions(args: &Completions, report: &Report) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "heirloom", &mut script);
    report.write(String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

pub fn man(args: &Man, report: &Report) -> Result<Exit> {
    let pages = pages();
    let Some(dir) = &args.dir else {
        for (_, page) in &pages {
            report.write(page)?;
        }
        return Ok(Exit::Ok);
    };
    let failed = |error| Failure::failed(format!("cannot write {}: {error}", dir.display()));
    fs::create_dir_all(dir).map_err(failed)?;
    for (file, page) in &pages {
        fs::write(dir.join(file), page).map_err(failed)?;
    }
    report.note(format_args!("wrote {} to {}", of_many(pages.len() as u64, "page", "pages"), dir.display()));
    Ok(Exit::Ok)
}

/// `heirloom.1`, and `heirloom-VERB.1` for each verb, with their text.
fn pages() -> Vec<(String, String)> {
    let mut program = Arguments::command();
    program.build();
    let verbs: Vec<_> = program.get_subcommands().cloned().collect();
    std::iter::once(program).chain(verbs).map(page).collect()
}

fn page(command: clap::Command) -> (String, String) {
    let title = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = Page::new(command.name(title.clone())).render(&mut text);
    (format!("{title}.1"), String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_each_verb() {
        let pages = pages();
        let files: Vec<&str> = pages.iter().map(|(file, _)| file.as_str()).collect();
        for file in ["heirloom.1", "heirloom-init.1", "heirloom-import.1", "heirloom-man.1"] {
            assert!(files.contains(&file), "{file} in {files:?}");
        }
        assert!(pages.iter().all(|(_, page)| page.contains(".SH SYNOPSIS")));
    }
}
