//! What was encrypted for its owner, for the owner. `cargo run --example decrypt_capture -- --new-key capture.key`
//! makes a key and prints whom to encrypt for (`ReceiptsBuilder::encrypt_for`);
//! `cargo run --example decrypt_capture -- --key capture.key receipt.json` prints the answer of a call, and with
//! `--request` the request. The file is a receipt, or one of its envelopes; `-` is standard input.

#[path = "common/secret_file.rs"]
#[allow(dead_code, reason = "for all examples")]
mod secret_file;

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use serde_json::Value;
use tower_mpp::receipt::{MAX_JSON_BYTES, RecipientSecret, open};
use zeroize::Zeroizing;

/// Opens the payloads of signed receipts.
#[derive(Parser)]
struct Options {
    /// A receipt with encrypted payloads, or an envelope; `-` for standard input
    #[arg(required_unless_present = "new_key")]
    file: Option<PathBuf>,
    /// The file with the secret key
    #[arg(long, required_unless_present = "new_key")]
    key: Option<PathBuf>,
    /// Print the request instead of the answer
    #[arg(long)]
    request: bool,
    /// Make a new secret key in this file, which must not be there yet
    #[arg(long, conflicts_with_all = ["file", "key", "request"])]
    new_key: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(output) => match io::stdout().write_all(&output) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<Vec<u8>, String> {
    if let Some(path) = options.new_key {
        return new_key(path);
    }
    let (Some(file), Some(key)) = (options.file, options.key) else { return Err("say which file".to_owned()) };
    let text = secret_file::read(&key).map_err(|error| error.to_string())?;
    let text = text.ok_or_else(|| format!("{}: there is no such file", key.display()))?;
    let secret: RecipientSecret = text.parse().map_err(|error| format!("{}: {error}", key.display()))?;
    let given = if file.as_os_str() == "-" {
        let mut given = String::new();
        let most = MAX_JSON_BYTES as u64;
        io::stdin().take(most).read_to_string(&mut given).map(|_| given)
    } else {
        fs::read_to_string(&file)
    };
    let given = given.map_err(|error| format!("{}: {error}", file.display()))?;
    let envelope = envelope(&given, options.request)?;
    open(&secret, &envelope).map_err(|error| error.to_string())
}

/// The envelope in a receipt, or what was given.
fn envelope(given: &str, request: bool) -> Result<String, String> {
    let value: Value = serde_json::from_str(given).map_err(|_| "this is no JSON".to_owned())?;
    if value.get("receipt_id").is_none() {
        return Ok(given.to_owned());
    }
    let name = if request { "encrypted_request_blob" } else { "encrypted_response_blob" };
    match value.get(name).and_then(Value::as_str) {
        Some(envelope) => Ok(envelope.to_owned()),
        None => Err(format!("the receipt has no {name}: take the one that its owner sees, not the public one")),
    }
}

fn new_key(path: PathBuf) -> Result<Vec<u8>, String> {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    let secret = RecipientSecret::random();
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(*secret.to_bytes()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    // Nobody else may read it.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&path).and_then(|mut file| writeln!(file, "{}", *text));
    written.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(format!("encrypt for {}\nfingerprint {}\n", secret.recipient(), secret.recipient().fingerprint()).into_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tower_mpp::receipt::{Recipient, seal};

    use super::*;

    fn options(file: PathBuf, key: PathBuf, request: bool) -> Options {
        Options { file: Some(file), key: Some(key), request, new_key: None }
    }

    #[test]
    fn the_owner_reads_what_was_encrypted() {
        let folder = tempfile::tempdir().unwrap();
        let (key, file) = (folder.path().join("key"), folder.path().join("receipt"));
        let said = String::from_utf8(new_key(key.clone()).unwrap()).unwrap();
        let recipient: Recipient = said.lines().next().unwrap().strip_prefix("encrypt for ").unwrap().parse().unwrap();
        assert!(new_key(key.clone()).is_err(), "a key is not written over");

        let request = seal(&recipient, b"the request").unwrap();
        let receipt = json!({"receipt_id": "r", "encrypted_request_blob": request, "encrypted_response_blob": null});
        fs::write(&file, receipt.to_string()).unwrap();
        assert_eq!(run(options(file.clone(), key.clone(), true)).unwrap(), b"the request");
        assert!(run(options(file.clone(), key.clone(), false)).unwrap_err().contains("no encrypted_response_blob"));
        fs::write(&file, seal(&recipient, b"\xff\0").unwrap()).unwrap();
        assert_eq!(run(options(file.clone(), key, false)).unwrap(), b"\xff\0");

        let other = folder.path().join("other");
        new_key(other.clone()).unwrap();
        assert!(run(options(file, other, false)).unwrap_err().contains("another key"));
    }
}
