"""Remarks on single tasks for the audit: why one differs from its benchmark, may be guessed, is flat.

A task that stays as it is on purpose stands here with the reason; everything else the audit calls a problem.
"""

# How the task differs from the benchmark of the same name.
DIFFERS = {
    "causal_judgement": "definitions are given, not what a typical person would say",
    "circuit_logic": "a list of gates instead of a drawing",
    "arc_1d": "14 hidden rules",
    "modulo_grid": "only the holes are asked, and the family of rules is stated",
    "list_functions": "22 hidden rules",
    "knight_swap": "a plan of any length is right",
    "hyperbaton": "the usual order is stated",
    "movie_recommendation": "the same main genre, not what viewers liked",
    "math_geometry": "school templates instead of contest texts",
    "math_counting_and_probability": "school templates instead of contest texts",
    "gsm": "17 templates instead of written problems",
    "rubiks_cube": "half turns are allowed, scrambles are short",
    "propositional_logic": "the conclusion is one literal",
    "ruin_names": "the joke is an edit that is a word; 80 jokes in all",
    "salient_translation_error_detection": "sentences from a grammar, not from texts",
    "tower_of_hanoi": "disks may start on any pegs",
    "spell_backward": "made-up words, too",
    "caesar_cipher": "levels 1 and 2 tell the shift",
    "letter_jumble": "the words to choose from are listed",
    "word_ladder": "the words to choose from are listed",
    "rectangle_count": "no rectangle touches or crosses another",
    "quantum_lock": "a press that does nothing still changes the light",
    "futoshiki": "the inequalities are listed, not drawn",
    "string_insertion": "patterns do not overlap",
    "constrained_linear_arrangement": "only the opponent may use no card twice",
    "boxlift": "a plan as short as a greedy one is asked for",
    "syllogism": "every valid form counts, and no group is empty",
    "game_of_life_halting": "random cells instead of well-known shapes",
    "snarks": "praise and complaints from frames, not from people",
    "sports_understanding": "a table of sports, athletes and actions",
}

# Why a cheap learner may be right far more often than chance at level 1.
GUESSED = {
    "ruin_names": "80 jokes, each with one right edit: they can be learned by heart",
    "web_of_lies": "an odd number of lies is the solution itself",
    "causal_judgement": "the words that decide are the ones to be read",
    "mahjong_pattern": "counting the last card is the task",
    "syllogism": "64 forms at level 1",
    "propositional_logic": "at level 1 it is often the letter behind IMPLIES, which is modus ponens",
    "boolean_expressions": "few operators at level 1",
    "snarks": "good and bad things are the knowledge that is asked for",
    "aiw": "the number beside the noun is right in a third to a half",
}

# Tasks whose levels change what is known or drawn, not a length that could be counted.
FLAT = {
    "ruin_names": "80 jokes are equally hard",
    "disambiguation_qa": "higher levels add asides",
    "sports_understanding": "higher levels add parts of a sentence",
    "snarks": "higher levels add words around the statement",
    "movie_recommendation": "higher levels take films of the same years",
    "date_understanding": "higher levels give the date in a roundabout way",
    "advanced_geometry": "larger coordinates",
    "calendar_arithmetic": "longer spans, the weekday no longer given",
    "syllogism": "from level 4 on, in any figure",
    "self_reference": "more statements, from level 4 on near a planted number",
    "hyperbaton": "more adjectives, then only neighbours exchanged",
    "logical_deduction_three_objects": "the statements say less",
    "power_function": "larger bases and exponents",
    "complex_arithmetic": "sums, then products, then quotients",
    "intermediate_integration": "another kind of integrand at each level",
    "time_intervals": "finer units, then dates and time zones",
    "puzzle24": "larger numbers",
    "combinatorial_calculation": "more digits, larger targets",
}
