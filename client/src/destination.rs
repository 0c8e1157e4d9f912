//! The destination of a download.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use transfer::sink::Destination;
use wire::FileName;

use crate::{cli::DownloadOptions, exit::UsageError, text};

/// Returns true for the `-` of `-o -`. A file of that name is `./-`.
pub(crate) fn is_standard_output(output: &Path) -> bool {
    output.as_os_str() == "-"
}

/// Returns true if a download goes to standard output.
pub(crate) fn is_to_standard_output(options: &DownloadOptions) -> bool {
    options.output.as_deref().is_some_and(is_standard_output)
}

/// Refuses `-o -` where the bytes do not come in their order.
pub(crate) fn refuse_standard_output(options: &DownloadOptions) -> anyhow::Result<()> {
    if is_to_standard_output(options) {
        return Err(UsageError::refusal("-o - works for published files only; give the URL a file name with -o"));
    }
    Ok(())
}

/// Returns the destination of a file that is published as `name`, or called so by an origin.
pub(crate) fn of_download(options: &DownloadOptions, name: &FileName) -> anyhow::Result<Destination> {
    refuse_standard_output(options)?;
    let FinalPath { folder, name } = final_path(options.output.as_deref(), &name.local())?;
    Ok(Destination { folder, name, partial_folder: options.partial_dir.clone(), replace: options.replace })
}

/// Describes the file that `-o` names where a folder may have been meant, because neither is there yet.
pub(crate) fn note_of_new_name(options: &DownloadOptions, name: &FileName) -> Option<String> {
    let output = options.output.as_deref()?;
    let may_be_folder = !output.exists() && output.extension().is_none() && output.file_name().is_some();
    let is_unlike = Path::new(name.as_str()).extension().is_some();
    (may_be_folder && is_unlike).then(|| {
        let output = text::path(output);
        format!(
            "There is no folder {output}: saving {name} as a file of that name; with {output}/ only a folder is meant"
        )
    })
}

/// Folder and name of a finished file.
#[derive(Debug)]
pub(crate) struct FinalPath {
    pub(crate) folder: PathBuf,
    pub(crate) name: FileName,
}

/// Resolves `-o`: a folder to write to, or a file name; the current folder without it.
pub(crate) fn final_path(output: Option<&Path>, name: &FileName) -> anyhow::Result<FinalPath> {
    let here = Path::new(".");
    let (folder, name) = match output {
        None => (here.to_owned(), name.clone()),
        Some(path) if path.is_dir() => (path.to_owned(), name.clone()),
        Some(path) if path.as_os_str().as_encoded_bytes().ends_with(b"/") => {
            anyhow::bail!("no such folder: {}; create it first", text::path(path))
        }
        Some(path) => {
            let text = path.file_name().and_then(|text| text.to_str());
            let named = text.with_context(|| format!("{} is not a file name", text::path(path)))?.parse()?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            (parent.unwrap_or(here).to_owned(), named)
        }
    };
    ensure!(folder.is_dir(), "no such folder: {}; create it, or choose another with -o", text::path(&folder));
    Ok(FinalPath { folder, name })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_new_file_where_a_folder_may_have_been_meant_is_announced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| Some(folder.path().join(name));
        std::fs::create_dir(folder.path().join("there")).unwrap();
        let options =
            |output| DownloadOptions { output, partial_dir: None, wait: Duration::ZERO, replace: false, quiet: false };
        let name: FileName = "a.bin".parse().unwrap();
        for (output, announced) in
            [(None, false), (path("there"), false), (path("Downloads"), true), (path("other.bin"), false)]
        {
            assert_eq!(note_of_new_name(&options(output.clone()), &name).is_some(), announced, "{output:?}");
        }
        assert_eq!(note_of_new_name(&options(path("Downloads")), &"README".parse().unwrap()), None);
        let error = final_path(Some(&folder.path().join("Downloads/")), &name).unwrap_err().to_string();
        assert!(error.contains("no such folder"), "{error}");
    }
}
