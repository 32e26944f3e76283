//! The laws by name.

use super::{BoxFuture, keeping, lab::Lab, lists, outcomes, pages, rows, sums};
use crate::conformance::laws::laws;

laws! {
    of "One law of the contract of a [`ReceiptStore`](crate::store::ReceiptStore).";
    broken_by "the ledger";
    KeptAsGiven "Receipts come back as they were given, byte for byte, whatever is in them and up to a mebibyte." keeping::as_given;
    RepeatedCountsOnce "The same receipt once more is no error, is kept once and counts once." keeping::repeated;
    ConflictRefused "Another receipt under the same id is refused, and changes nothing." keeping::conflict;
    OneOfManyAtOnce "Of different receipts that are appended under one id at once, one is kept and counts." keeping::one_of_many;
    FinalStandsBefore "The final receipt stands before the provisional one, in whatever order they came." keeping::final_first;
    ProvisionalUnlisted "A provisional receipt is found by its id, and is in no list and in no sum." keeping::provisional_unlisted;
    ExactIds "Receipts, payments and parents are told apart by all bits of their ids." rows::exact_ids;
    NothingChanges "After a thousand appends every receipt is what it was." rows::nothing_changes;
    OfPaymentInOrder "The final receipts of a payment are listed, the oldest first, and no others." lists::of_payment;
    ChildrenInOrder "The final receipts that add to another one are listed, the oldest first, and no others." lists::children;
    LimitsObeyed "No list is longer than its limit, and any limit will do." lists::limits;
    PagesComplete "Pages list what is public, the newest first, each once, and end where the list ends." pages::complete;
    PagesWhileAppending "Paging on neither repeats nor leaves out anything while others append." pages::while_appending;
    PagesOfLarge "Paging on lists every receipt once also where they are large, and each page has at least one." pages::of_large;
    GrowsAtTheFront "What comes into the list later stands before all that was in it." pages::grows_at_the_front;
    TotalsOfNames "Sums are kept for each name, byte for byte, and the names with the most receipts come first." sums::of_names;
    TotalsOfDays "Paid receipts are counted for each day in UTC, the oldest first, from the day that is asked for on." sums::of_days;
    TotalsAtOnce "Sums are right when many append at once, some of them the same." sums::at_once;
    TotalsStop "Sums stop at 2^63 - 1." sums::stop;
    OutcomesInOrder "Outcomes are listed as they were said, the oldest first, at most as many as the limit, and change no receipt." outcomes::in_order;
    OutcomesOnce "The same outcome once more adds nothing." outcomes::once;
    FullRefuses "A full ledger refuses, and drops nothing." rows::full_refuses, 1000;
}
