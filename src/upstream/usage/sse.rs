//! The data of server-sent events, read while they pass.

/// Longer events are not read: counts of tokens are short.
const MAX_EVENT: usize = 256 * 1024;

/// A stream of events, cut anywhere.
pub(super) struct Events {
    /// Of the line that has begun.
    line: Vec<u8>,
    /// Of the event that has begun, lines joined by line feeds.
    data: Vec<u8>,
    has_data: bool,
    too_long: bool,
    /// A line feed behind a carriage return belongs to it.
    after_return: bool,
    is_first_line: bool,
}

impl Events {
    pub(super) fn new() -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            too_long: false,
            after_return: false,
            is_first_line: true,
        }
    }

    /// Calls `found` with the data of each event that ends in this piece.
    pub(super) fn read(&mut self, piece: &[u8], mut found: impl FnMut(&[u8])) {
        let mut rest = piece;
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, ended) = rest.split_at(at);
            let Some((end, next)) = ended.split_first() else { break };
            rest = next;
            if *end == b'\n' && line.is_empty() && std::mem::take(&mut self.after_return) {
                continue;
            }
            self.after_return = *end == b'\r';
            self.extend(line);
            self.end_line(&mut found);
        }
        if !rest.is_empty() {
            self.after_return = false;
            self.extend(rest);
        }
    }

    fn extend(&mut self, part: &[u8]) {
        if self.too_long || self.line.len() + self.data.len() + part.len() > MAX_EVENT {
            self.too_long = true;
            self.line.clear();
            self.data.clear();
        } else {
            self.line.extend_from_slice(part);
        }
        // Of a line that is not kept, only this is known: it was not empty.
        if self.too_long && self.line.is_empty() && !part.is_empty() {
            self.line.push(b':');
        }
    }

    fn end_line(&mut self, found: &mut impl FnMut(&[u8])) {
        let mut line = self.line.as_slice();
        if std::mem::take(&mut self.is_first_line) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            if self.has_data && !self.too_long {
                found(&self.data);
            }
            self.data.clear();
            (self.has_data, self.too_long) = (false, false);
        } else if let Some(value) = line.strip_prefix(b"data:") {
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
        self.line.clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut events, mut found) = (Events::new(), Vec::new());
        for piece in pieces {
            events.read(piece, |event| found.push(event.to_vec()));
        }
        found
    }

    #[test]
    fn every_line_ending_and_field_is_read_as_browsers_do() {
        let stream = b"\xef\xbb\xbfdata: a\n\n: comment\nevent: x\ndata:b\ndata: c\nid: 7\n\r\ndata: d\r\rdata: cut";
        let expected: [&[u8]; 3] = [b"a", b"b\nc", b"d"];
        assert_eq!(events(&[stream]), expected);
    }

    #[test]
    fn an_event_that_is_too_long_is_left_out_and_the_next_is_read() {
        let long = [b"data: ".as_slice(), &vec![b'x'; MAX_EVENT + 1], b"\ndata: more\n\ndata: next\n\n"].concat();
        assert_eq!(events(&[&long]), [b"next"]);
        let pieces: Vec<_> = long.chunks(1000).collect();
        assert_eq!(events(&pieces), [b"next"]);
    }

    proptest! {
        #[test]
        fn where_a_stream_is_cut_makes_no_difference(
            stream in "(data: [a-c]{0,3}|event: x|:|data:)?(\r\n|\n|\r){1,2}{0,8}",
            cuts in proptest::collection::vec(1_usize..5, 1..40),
        ) {
            let bytes = stream.as_bytes();
            let mut pieces: Vec<&[u8]> = Vec::new();
            let mut rest = bytes;
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, next) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = next;
            }
            prop_assert_eq!(events(&[bytes]), events(&pieces));
        }
    }
}
