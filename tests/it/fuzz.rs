//! The corpus of the fuzz target `template`, replayed, and templates made of its pieces.

#[path = "../../fuzz/play/template.rs"]
mod play;

use std::fs;

use serde_json::Value;

const ROUNDS: usize = 3000;

fn corpus() -> Vec<Vec<u8>> {
    let files = fs::read_dir("fuzz/corpus/template").unwrap();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn the_template_corpus_is_read_without_harm() {
    let corpus = corpus();
    assert!(corpus.len() >= 25, "{}", corpus.len());
    let rendered: usize = corpus.iter().map(|bytes| play::play(bytes)).sum();
    assert!(rendered >= 40, "most of them are refused: {rendered}");
}

/// Bytes that are changed are seldom JSON: here whole values change places.
#[test]
fn templates_of_mixed_pieces_are_refused_or_rendered() {
    let whole: Vec<Value> = corpus().iter().filter_map(|bytes| serde_json::from_slice(bytes).ok()).collect();
    let mut pieces = Vec::new();
    whole.iter().for_each(|value| collect(value, &mut pieces));
    let mut random = 20_u64;
    let mut below = |most: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % most
    };
    let mut rendered = 0;
    for _ in 0..ROUNDS {
        let mut made = whole[below(whole.len())].clone();
        for _ in 0..=below(3) {
            let mut places = Vec::new();
            collect(&made, &mut places);
            replace(&mut made, &mut below(places.len()), &pieces[below(pieces.len())]);
        }
        rendered += play::play_json(&made);
    }
    assert!(rendered >= ROUNDS / 4, "hardly one is rendered: {rendered}");
}

/// A value and all that it holds.
fn collect(value: &Value, found: &mut Vec<Value>) {
    found.push(value.clone());
    match value {
        Value::Array(list) => list.iter().for_each(|one| collect(one, found)),
        Value::Object(object) => object.values().for_each(|one| collect(one, found)),
        _ => {}
    }
}

/// Puts `by` in the place of the so-manieth value, in the order of [`collect`]; true once it is done.
fn replace(value: &mut Value, place: &mut usize, by: &Value) -> bool {
    if *place == 0 {
        *value = by.clone();
        return true;
    }
    *place -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|one| replace(one, place, by)),
        Value::Object(object) => object.values_mut().any(|one| replace(one, place, by)),
        _ => false,
    }
}
