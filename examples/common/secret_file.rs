//! Secrets in files that nobody else may read.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// No key is longer.
const MAX_BYTES: u64 = 64 * 1024;

/// A file or folder with secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretFileError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: others can read it (mode {mode:03o}); run: chmod {fitting:03o} {}", path.display(), path.display())]
    TooOpen { path: PathBuf, mode: u32, fitting: u32 },
    #[error("{}: this is no {expected}; move it away or choose another place", path.display())]
    WrongType { path: PathBuf, expected: &'static str },
    #[error("{}: there is no usable key in it; delete it, and a new one is made", path.display())]
    Unusable { path: PathBuf },
}

/// The secret in the file, without white space around it; `None` when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, SecretFileError> {
    let failed = |source| SecretFileError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // Of the file that is open, not of what the name means by now.
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(SecretFileError::WrongType { path: path.to_owned(), expected: "file" });
    }
    check_private(path, &metadata, 0o600)?;
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    match text.trim() {
        "" => Err(SecretFileError::Unusable { path: path.to_owned() }),
        secret => Ok(Some(Zeroizing::new(secret.to_owned()))),
    }
}

/// The secret in the file, which is made first when there is none: whole or not at all, and only once
/// when several processes start at the same time.
pub(crate) fn read_or_create(
    path: &Path,
    make: impl FnOnce() -> Zeroizing<String>,
) -> Result<Zeroizing<String>, SecretFileError> {
    if let Some(secret) = read(path)? {
        return Ok(secret);
    }
    let failed = |source| SecretFileError::Io { path: path.to_owned(), source };
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Mode 0600 from the start.
    let mut file = tempfile::Builder::new().prefix(".key").tempfile_in(folder).map_err(failed)?;
    file.write_all(make().as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?,
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error.error)),
    }
    read(path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// A folder that nobody else may enter. It is made when there is none.
pub(crate) fn private_folder(path: &Path) -> Result<(), SecretFileError> {
    let failed = |source| SecretFileError::Io { path: path.to_owned(), source };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    check_folder(path)
}

/// Checks a folder, if it is there.
pub(crate) fn check_folder(path: &Path) -> Result<(), SecretFileError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(SecretFileError::Io { path: path.to_owned(), source }),
    };
    if !metadata.is_dir() {
        return Err(SecretFileError::WrongType { path: path.to_owned(), expected: "folder" });
    }
    check_private(path, &metadata, 0o700)
}

#[cfg(unix)]
fn check_private(path: &Path, metadata: &Metadata, fitting: u32) -> Result<(), SecretFileError> {
    let mode = std::os::unix::fs::MetadataExt::mode(metadata) & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::TooOpen { path: path.to_owned(), mode, fitting });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_: &Path, _: &Metadata, _: u32) -> Result<(), SecretFileError> {
    Ok(())
}
