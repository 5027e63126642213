//! `completions` and `man`: what the command line says of itself, for shells and for man(1).

use std::fs;

use clap::CommandFactory;
use clap_mangen::Man as Page;

use crate::{
    args::{Arguments, Completions, Man},
    failure::{Exit, Failure, Result},
    location,
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
    location::target(dir)?;
    fs::create_dir_all(dir).map_err(failed)?;
    for (file, page) in &pages {
        fs::write(dir.join(file), page).map_err(failed)?;
    }
    report.note(format_args!("wrote {} to {}", of_many(pages.len() as u64, "page", "pages"), dir.display()));
    Ok(Exit::Ok)
}

/// `heirloom.1`, `heirloom-VERB.1` for each verb, and `heirloom-key-add.1` and its like, with their text.
fn pages() -> Vec<(String, String)> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    add_pages(program, &mut pages);
    pages
}

fn add_pages(command: clap::Command, pages: &mut Vec<(String, String)>) {
    pages.push(page(command.clone()));
    command.get_subcommands().cloned().for_each(|verb| add_pages(verb, pages));
}

fn page(command: clap::Command) -> (String, String) {
    let title = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let notes = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
    let command = command.name(title.clone()).after_help(None::<&str>).after_long_help(None::<&str>);
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = Page::new(command).render(&mut text);
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if let Some(notes) = notes {
        text += ".SH EXAMPLES\n";
        text += &with_its_lines(&notes);
    }
    (format!("{title}.1"), text)
}

/// Help for man(1), in which lines that are indented, examples and tables, stay lines. What is not indented is filled.
fn with_its_lines(help: &str) -> String {
    let mut roff = String::new();
    let mut is_table = false;
    for line in help.lines() {
        let is_indented = line.starts_with(' ');
        if is_indented != is_table && !line.is_empty() {
            roff += if is_indented { ".nf\n" } else { ".fi\n" };
            is_table = is_indented;
        }
        match line.trim_end() {
            "" => roff += ".PP\n",
            line => {
                // At the beginning of a line these are commands.
                let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
                roff += &format!("{guard}{}\n", line.replace('\\', "\\e").replace('-', "\\-"));
            }
        }
    }
    if is_table { roff + ".fi\n" } else { roff }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_each_verb() {
        let pages = pages();
        let files: Vec<&str> = pages.iter().map(|(file, _)| file.as_str()).collect();
        for file in ["heirloom.1", "heirloom-init.1", "heirloom-man.1", "heirloom-key.1", "heirloom-key-add.1"] {
            assert!(files.contains(&file), "{file} in {files:?}");
        }
        assert!(pages.iter().all(|(_, page)| page.contains(".SH SYNOPSIS")));
        let of = |name: &str| &pages.iter().find(|(file, _)| file == name).unwrap().1;
        assert!(of("heirloom-encryption.1").contains("change\\-password: Change the password"));
    }

    #[test]
    fn tables_stay_tables_on_pages() {
        let roff = with_its_lines("Exit codes:\n    0  ok\n   30  damage\n\nAll else:\n'x' is .nf \\n");
        assert_eq!(roff, "Exit codes:\n.nf\n    0  ok\n   30  damage\n.PP\n.fi\nAll else:\n\\&'x' is .nf \\en\n");
    }
}
