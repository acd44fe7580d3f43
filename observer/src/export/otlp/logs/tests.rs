//! Log records, decoded and compared.
