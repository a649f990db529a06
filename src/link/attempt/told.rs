//! What became of an attempt, in words for whoever supports members: what happened, and what the person should do.

/// What is said of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub happened: &'static str,
    /// None where nothing is to be done.
    pub advice: Option<&'static str>,
}

const AGAIN: &str = "start again; one try is enough";

/// The words for `outcome`, as the tables keep it; none for what this version does not know.
pub fn of(outcome: &str) -> Option<Told> {
    progress(outcome).or_else(|| on_the_way(outcome)).or_else(|| at_line(outcome)).or_else(|| of_accounts(outcome))
}

const fn done(happened: &'static str) -> Option<Told> {
    Some(Told { happened, advice: None })
}

const fn told(happened: &'static str, advice: &'static str) -> Option<Told> {
    Some(Told { happened, advice: Some(advice) })
}

fn progress(outcome: &str) -> Option<Told> {
    match outcome {
        "linked" => done("linked"),
        "signed_in" => done("signed in"),
        "arrived" => done("LINE's word came, and is being handled"),
        "proven" => told(
            "LINE proved the person inside of LINE; nobody signed in or linked after that",
            "open the page in LINE again, sign in there with the password, and link",
        ),
        "confirming" => {
            told("the page that names both accounts waits for the person's yes", "say yes there, within ten minutes")
        }
        "declined" => {
            told("the person said no on the page that names both accounts", "start again, if they want it after all")
        }
        "abandoned" => told("nobody said yes in time on the page that names both accounts", AGAIN),
        "not_linked" => told(
            "LINE knows the person, and their LINE account is linked to nobody here",
            "sign in with the password first, then link LINE on the account page",
        ),
        _ => None,
    }
}

/// Between the start and LINE's answer.
fn on_the_way(outcome: &str) -> Option<Told> {
    match outcome {
        "state_unbound" => told(
            "LINE came back in another browser than the one it was started in, or in one that had lost our cookie",
            "press \"Start again with LINE\" on the page that they see, and stay in that browser; or open our page in the \
             phone's usual browser (not in another app, not in private mode, with cookies allowed) and start there",
        ),
        "state_unknown" | "state_missing" => told(
            "LINE came back with an answer that belongs to no start of this browser: LINE's auto login failed",
            "press \"Start again with LINE\" on the page that they see: that goes without LINE's auto login",
        ),
        "state_used" => {
            told("the same answer of LINE's was opened again", "look at the account page: it is done already")
        }
        "state_expired" => told("LINE came back later than ten minutes after the start", AGAIN),
        "provider" => told("LINE came back for another provider than it was started for", AGAIN),
        "query" | "code_and_error" => told("LINE's answer could not be read: the address was cut or changed", AGAIN),
        "iss" => {
            told("the answer does not come from LINE", "start again from our own page, not from a link they were sent")
        }
        "session_changed" => told(
            "the person signed out, or signed in anew, while they were at LINE",
            "sign in with the password, then start again in the same browser",
        ),
        "ticket_gone" => told("the ticket was used, revoked or too old", "get a new ticket where they found the first"),
        _ => None,
    }
}

/// What LINE said.
fn at_line(outcome: &str) -> Option<Told> {
    match outcome {
        "denied" => told("the person pressed Cancel at LINE", "start again, and press Allow at LINE"),
        "line_error" => told("LINE refused to ask the person", "try again; if it goes on, run `musubi doctor`"),
        "code" => told("LINE did not take its own code: it was used before, or too old", AGAIN),
        "provider_fault" | "liff_line_away" => {
            told("LINE could not be reached, or gave an answer of no use", "try again in some minutes")
        }
        "id_token_iat" => told("this machine's clock and LINE's differ", "nothing; an operator has to set the clock"),
        "id_token_exp" | "liff_access_token" | "liff_no_token" => told(
            "LINE's word about the person had run out, or was missing",
            "close the page in LINE, and open it again",
        ),
        "profile_mismatch" => told("LINE's answers were about two different people", AGAIN),
        "liff_other_channel" | "liff_scope" => {
            told("the LIFF app is not set up for this channel", "nothing; an operator should run `musubi doctor`")
        }
        "liff_replayed" => told(
            "what LINE said was shown by another browser before",
            "open the page in LINE again, from the chat or the menu",
        ),
        "failed" => told(
            "LINE's dialog was open with another LINE account than the one in the chat",
            "open the button on the phone that has the LINE account of the chat",
        ),
        "other_person" => {
            told("LINE answered for somebody else: see the alarm in the log", "nothing; tell the operators")
        }
        "expired" => told(
            "LINE's word did not come in time: its dialog was left, or took too long",
            "write \"link\" in the chat again",
        ),
        word if word.starts_with("id_token_") => told("LINE's word about the person did not pass our checks", AGAIN),
        _ => None,
    }
}

/// What the two accounts are.
fn of_accounts(outcome: &str) -> Option<Told> {
    match outcome {
        "unavailable" => told(
            "the member is disabled, deleted, or their link is suspended since a reset of the password",
            "sign in with the password, and confirm LINE on the account page; a disabled member has to be enabled first",
        ),
        "conflict_line" => told(
            "the LINE account is linked to another member here",
            "sign in as that other member and unlink LINE there, or use another LINE account",
        ),
        "conflict_member" => told(
            "the member is linked to another LINE account",
            "unlink that one on the account page, then link this one",
        ),
        "already_linked" => told("the two were linked already", "nothing: it works"),
        "busy" => told("the former link was being removed at LINE at that moment", "try again in a minute"),
        "confirm_gone" => told("the page that names both accounts was answered before, or too late", AGAIN),
        "member_changed" => told(
            "the member signed out, got another password, or was disabled between the yes and LINE's word",
            "write \"link\" in the chat again",
        ),
        "unlinked_since" => {
            told("the link was ended between the yes and LINE's word", "write \"link\" in the chat again")
        }
        _ => None,
    }
}
