//! Values that are secret by the name they are given to.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// The end of a name, what stands between name and value, the quote, the value.
pub(crate) static ASSIGNMENT: LazyLock<Regex> = LazyLock::new(|| {
    let name = r"(?P<name>(?i:passwords?|passwd|pwd|passphrase|secret|token|(?:api|access|secret|private|account|auth|encryption|signing)[_-]?key)|KEY)";
    let header =
        r#"(?i:bearer|authorization["']?[ \t]{0,3}:[ \t]{0,3}["']?(?:basic|token))[ \t]{1,3}"#;
    let between = r#"["'\]]{0,3}[ \t]{0,3}(?:=>|:=|=|:)[ \t]{0,3}"#;
    let value = r#"(?P<quote>["'`]?)(?P<value>[A-Za-z0-9+/@!#][A-Za-z0-9+/@!#$%^&*~=._-]{7,})"#;
    Regex::new(&format!("(?:{name}{between}|{header}){value}")).expect("a pattern of ours")
});

/// Whether some value is given to a name that says key, secret, token or password, or sent as a bearer's, and looks like one.
pub(crate) fn assigned(text: &str) -> Option<&'static str> {
    let mut found = ASSIGNMENT.captures_iter(text);
    found
        .any(|found| is_secret(text, &found))
        .then_some("assigned secret")
}

fn is_secret(text: &str, found: &Captures<'_>) -> bool {
    let name = found.name("name");
    let named = name.map_or("", |name| name.as_str()).to_ascii_lowercase();
    let before = &text[..name.map_or(0, |name| name.start())];
    let value = &found["value"];
    let quoted = !found["quote"].is_empty();
    let value = value.trim_end_matches(['.', '!']);
    let next = text[found.get_match().end()..].chars().next();
    if says_where_to_go_on(before) || is_placeholder(value) {
        return false;
    }
    if !quoted && (is_code(value) || matches!(next, Some('(' | '[' | '{'))) {
        return false;
    }
    let mixed =
        value.bytes().any(|c| c.is_ascii_alphabetic()) && value.bytes().any(|c| c.is_ascii_digit());
    if named.starts_with("pass") || named == "pwd" {
        return mixed && value.len() >= 8 && entropy(value) >= 2.5;
    }
    let is_path = named == "key" && value.contains(['/', '.']);
    mixed && value.len() >= 16 && entropy(value) >= 3.0 && !is_accession(value) && !is_path
}

/// Names such as `next_page_token`: a place in a list, which public services hand out.
fn says_where_to_go_on(before: &str) -> bool {
    let is_name = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name: String = before.chars().rev().take_while(is_name).take(40).collect();
    let name: String = name.chars().rev().collect::<String>().to_ascii_lowercase();
    ["page", "next", "continuation", "cursor"]
        .iter()
        .any(|word| name.contains(word))
}

fn is_placeholder(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    [
        "your",
        "example",
        "xxxx",
        "placeholder",
        "redacted",
        "dummy",
    ]
    .iter()
    .any(|word| value.contains(word))
}

/// `config.token_2`, `/etc/key1`, `db_password_2`: where the value comes from, not the value.
fn is_code(value: &str) -> bool {
    let is_name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
    value.contains('.')
        || value.starts_with('/')
        || (value.contains('_') && value.bytes().all(is_name))
}

/// Letters, and then digits with a version: `ENSG00000139618`, `NM_000000546.6`.
fn is_accession(value: &str) -> bool {
    let number = value.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let number = number.trim_start_matches(['_', '-']);
    number.len() < value.len()
        && value.len() - number.len() <= 8
        && number.bytes().all(|c| c.is_ascii_digit() || c == b'.')
}

/// Bits a character.
fn entropy(value: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let all = value.len() as f64;
    let shares = counts.iter().filter(|n| **n > 0);
    shares
        .map(|n| f64::from(*n) / all)
        .map(|p| -p * p.log2())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_names_that_say_secret_are_found() {
        for text in [
            "password = hunter2secret",
            "Password: tr0ub4dor&3",
            "OPENAI_API_KEY=abcdef1234567890abcdef",
            "export KEY='Zx81Qw27Er63Ty59Ui40'",
            r#"{"apiKey": "9f8e7d6c5b4a39281706"}"#,
            r#"os.environ["NCBI_API_KEY"] = "0123456789abcdef0123456789abcdef0123""#,
            "https://example.org/a?api_key=0123456789abcdef0123456789abcdef0123&db=gene",
            "aws_secret_access_key = wJalrXUtnFEMIK7MDENGbPxRfiCYabc1",
            "client_secret: Q~8aB3dE5fG7hJ9kL2mN4p",
            "access_token=\"abcd.EFGH1234ijkl5678\"",
            "Authorization: Bearer abcdefghijklmnopqrstuvwxyz123456",
            "Authorization: Basic dXNlcjpwYXNzd29yZDEyMw==",
            r#"headers = {"Authorization": "Bearer 0a1b2c3d4e5f6g7h8i9j"}"#,
        ] {
            assert_eq!(assigned(text), Some("assigned secret"), "{text}");
        }
    }

    #[test]
    fn code_accessions_and_prose_are_not() {
        for text in [
            "password = getpass.getpass()",
            "token = os.environ[\"HF_TOKEN_2\"]",
            "api_key=os.getenv('KEY1')",
            "api_key = settings.openai_api_key_v2",
            "token = tokenizer_v2_output_ids_1",
            "password = db_password_2",
            "max_tokens=8192, pad_token_id=151643, eos_token='<|im_end|>'",
            "token: ENSG00000139618, secret: NM_000000000546.6",
            "gene_token = 'rs7903146', token = \"BRCA1_HUMAN\"",
            "InChIKey=BSYNRYMUTXBXSQ-UHFFFAOYSA-N, KEY=data/gwas/chr1/part12.parquet",
            "SMILES token: CC(=O)OC1=CC=CC=C1C(=O)O",
            "sorted(rows, key=lambda row: row.score12345678)",
            "nextPageToken: CAUQAA1234567890abcdef",
            "OPENAI_API_KEY=your_api_key_1234567890",
            "API_KEY=${API_KEY_FROM_VAULT_2}",
            "the bearer immunohistochemistryantibodies of standard",
            "secreted: IL6 and TNF12345678; the secretin receptor",
            "Password: at least 8 characters",
        ] {
            assert_eq!(assigned(text), None, "{text}");
        }
    }

    #[test]
    fn entropy_is_in_bits() {
        assert!(entropy("aaaaaaaa").abs() < 1e-12);
        assert!((entropy("abcdabcd") - 2.0).abs() < 1e-12);
    }
}
