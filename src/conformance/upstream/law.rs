//! The laws by name.

use super::{BoxFuture, asking, bodies, failing, lab::Lab};
use crate::conformance::laws::laws;

laws! {
    of "One law of the contract of an [`Upstream`](crate::upstream::Upstream).";
    broken_by "the upstream";
    HasAName "It has a name for logs, which stays what it is." asking::name;
    RequestAsItIs "Method, path, query, headers and body reach the provider as they were given." asking::request;
    AnswerAsItIs "An answer of the provider is the answer, whatever its status: status, headers and body." asking::answer;
    NoRedirectFollowed "A redirect is an answer like any other." asking::redirect;
    ManyAtOnce "Calls do not wait for each other and are not mixed up." asking::many_at_once;
    StartedBeforeItLeaves "The report says that the call has started before the provider hears of it." asking::started;
    NotStartedBefore "A provider that cannot be reached is an error, and was not started." failing::unreachable;
    BrokenHasStarted "A connection that breaks before the answer is an error, and the call had started." failing::broken;
    NothingIsTriedTwice "A request that may have been heard is not sent again." failing::tried_twice;
    NextCallWorks "A call that failed leaves the next one in order." failing::next_call;
    AnswersStream "The head of an answer, and each piece, comes when it is there." bodies::answers_stream;
    RequestsStream "Each piece of a request leaves when it is there." bodies::requests_stream;
    ReaderSetsThePace "An answer that nobody reads is not collected." bodies::pace;
    TrailersPass "The trailers of an answer pass." bodies::trailers;
    BreakIsAnError "A body that breaks off ends with an error, and never as if it were whole." bodies::breaks;
    ClientBreakIsNoEnd "A request that breaks off never reaches the provider as if it were whole." bodies::client_breaks;
    DroppedCallEnds "A call that is dropped before its answer ends." failing::dropped_call;
    DroppedBodyEnds "A call whose body is dropped ends." failing::dropped_body;
}
