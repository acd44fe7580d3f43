//! What the user wrote, validated.
