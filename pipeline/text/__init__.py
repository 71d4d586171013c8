"""What all stages know of text: characters, words, sentences, languages."""
