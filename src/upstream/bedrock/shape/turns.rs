//! The order of a conversation: what a model has asked of a tool is answered at once, and once.

use std::collections::HashSet;

use super::super::{error::AnthropicError, messages::Field};

/// Who speaks. Messages of one side that follow each other are one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    User,
    Assistant,
}

#[derive(Default)]
pub(super) struct Turns<'a> {
    side: Option<Side>,
    used: HashSet<&'a str>,
    /// Uses of tools that wait for their results.
    open: Vec<Field<'a>>,
    /// The results of this turn are over: something else has come.
    over: bool,
    /// The text that the conversation ends with so far.
    last: Option<Field<'a>>,
}

impl<'a> Turns<'a> {
    pub(super) fn begin(&mut self, side: Side) -> Result<(), AnthropicError> {
        if self.side == Some(side) {
            return Ok(());
        }
        if side == Side::Assistant {
            self.all_answered()?;
        }
        (self.side, self.over, self.last) = (Some(side), false, None);
        Ok(())
    }

    pub(super) fn uses(&mut self, id: Field<'a>) -> Result<(), AnthropicError> {
        self.last = None;
        if !self.used.insert(id.text()?) {
            return Err(id.wrong("is there twice: each use of a tool has an id of its own"));
        }
        self.open.push(id);
        Ok(())
    }

    pub(super) fn result(&mut self, of: &Field<'a>) -> Result<(), AnthropicError> {
        if self.over {
            return Err(of.wrong("comes too late: results of tools come before all other content"));
        }
        let id = of.text()?;
        match self.open.iter().position(|open| open.value.as_str() == Some(id)) {
            Some(at) => {
                self.open.swap_remove(at);
                Ok(())
            }
            None => Err(of.wrong("must be the id of a tool_use of the message before, each of them once")),
        }
    }

    pub(super) fn text(&mut self, text: Field<'a>) {
        self.over = true;
        self.last = Some(text);
    }

    pub(super) fn other(&mut self) {
        self.over = true;
        self.last = None;
    }

    pub(super) fn end(&self) -> Result<(), AnthropicError> {
        self.all_answered()?;
        match &self.last {
            Some(last) if self.side == Some(Side::Assistant) && last.text()?.ends_with(char::is_whitespace) => {
                Err(last.wrong("must not end with white space, as the beginning of an answer"))
            }
            _ => Ok(()),
        }
    }

    fn all_answered(&self) -> Result<(), AnthropicError> {
        match self.open.first() {
            Some(open) => Err(open.wrong("has no tool_result in the next message")),
            None => Ok(()),
        }
    }
}
