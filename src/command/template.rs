//! `musubi template check|render`.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use musubi::{config::Config, message::template::command as template};

use super::{ConfigPath, Failure, explain, note, say};

#[derive(Subcommand)]
pub enum Command {
    /// Names every mistake of every file, with its place; ends with 1 where there is one
    Check {
        #[command(flatten)]
        templates: Templates,
        /// Only the files of this name
        name: Option<String>,
    },
    /// Prints the message objects of a template, and says what LINE would not take; ends with 1 then
    Render {
        #[command(flatten)]
        templates: Templates,
        /// Name of the template, as in welcome
        name: String,
        /// JSON file of the data; - reads it from standard input
        #[arg(long, value_name = "FILE")]
        data: PathBuf,
        /// en, ja, th or zh-TW; the installation's default without it
        #[arg(long)]
        locale: Option<String>,
    },
}

/// Where the templates are: beside the shipped ones, a folder, or the one that the configuration names.
#[derive(clap::Args)]
pub struct Templates {
    #[command(flatten)]
    config: ConfigPath,
    /// The folder of the company's templates; the configuration is not read then
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

pub fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Check { templates, name } => check(&templates, name.as_deref()),
        Command::Render { templates, name, data, locale } => render(&templates, &name, &data, locale.as_deref()),
    }
}

fn check(templates: &Templates, name: Option<&str>) -> Result<ExitCode, Failure> {
    let report = template::check(templates.place()?.folder.as_deref(), name)?;
    report.lines.iter().for_each(|line| say(line));
    Ok(if report.is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(templates: &Templates, name: &str, data: &Path, locale: Option<&str>) -> Result<ExitCode, Failure> {
    let text = if data == Path::new("-") {
        io::read_to_string(io::stdin())?
    } else {
        std::fs::read_to_string(data).map_err(|error| format!("{}: {error}", data.display()))?
    };
    let shown = template::show(&templates.place()?, name, &text, locale)?;
    say(&shown.messages);
    if shown.breaches.is_empty() {
        explain("within LINE's limits");
        return Ok(ExitCode::SUCCESS);
    }
    explain("LINE would not take this:");
    shown.breaches.iter().for_each(|breach| note(&format!("✗ {breach}")));
    Ok(ExitCode::FAILURE)
}

impl Templates {
    /// Without folder and configuration there are the shipped templates alone.
    fn place(&self) -> Result<template::Place, Failure> {
        match &self.config.path {
            Some(path) if self.folder.is_none() => Ok(template::Place::of(&Config::load(Some(path))?)?),
            _ => Ok(template::Place { folder: self.folder.clone(), ..Default::default() }),
        }
    }
}
