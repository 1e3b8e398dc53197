//! Daemons as actors: mailbox, execution fence, factories.
