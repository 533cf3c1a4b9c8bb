//! The admin API as administrators and their enemies meet it, with the data port beside it: what is answered is in
//! force, what is refused changed nothing, and no secret is anywhere but in the one answer that shows it.

mod access;
mod answers;
mod attacks;
mod beside_editors;
mod bodies;
mod broken_off;
mod conditional;
mod desk;
mod hostile_text;
mod life_of_a_token;
mod listing;
mod over_tls;
mod read_only;
mod repeated;
mod sites;
mod trail;
mod usage;
mod wrong_keys;
