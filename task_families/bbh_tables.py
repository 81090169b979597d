"""The hand-made tables behind the knowledge tasks of BIG-Bench-Hard: data only.

What is right follows from a table by construction: a film has one genre, an adjective one class, a slot of a
sentence one word in each language. A verb that a task needs in two forms is written 'lose/lost'.
"""


def items(text: str) -> list[str]:
    """'a; b c; d' over any number of lines -> ['a', 'b c', 'd']."""
    return [" ".join(item.split()) for item in text.split(";")]


def rows(text: str) -> list[list[str]]:
    """'a | b; c | d' -> [['a', 'b'], ['c', 'd']]."""
    return [[cell.strip() for cell in item.split("|")] for item in items(text)]


def pairs(text: str) -> dict[str, str]:
    """'a/b c/d' -> {'a': 'b', 'c': 'd'}."""
    return dict(item.split("/") for item in text.split())


# ------------------------------------------------------------------------------------------- causal_judgement
# what happens; three acts that may be needed for it; something that has nothing to do with it
SCENES = rows("""
    the museum alarm goes/went off | opens/opened the side window | lifts/lifted the glass case |
        steps/stepped on the red carpet | reads/read the sign at the door;
    the old machine stops/stopped | pulls/pulled the green lever | presses/pressed the round button |
        opens/opened the safety door | polishes/polished the name plate;
    the greenhouse gets/got too hot | turns/turned on the heater | closes/closed the roof windows |
        lights/lit the oven in the corner | waters/watered the roses;
    the heavy gate swings/swung open | enters/entered the code | turns/turned the brass key |
        loosens/loosened the chain | takes/took a photo of the tower;
    the club goes/went over its budget | orders/ordered new chairs | books/booked a band | rents/rented a
        bigger hall | counts/counted the stamps;
    the fuse blows/blew | switches/switched on the kettle | plugs/plugged in the iron | starts/started the
        washing machine | opens/opened the newspaper;
    the boat tips/tipped over | leans/leaned over the left side | climbs/climbed onto the mast |
        stands/stood up on the bench | sings/sang a sea song;
    the bridge light turns/turned red | drives/drove onto the bridge | opens/opened the barrier |
        parks/parked on the ramp | waves/waved from the river bank;
    the computer restarts/restarted | installs/installed the update | removes/removed the memory stick |
        unplugs/unplugged the battery | wipes/wiped the desk;
    the dam opens/opened its outlet | raises/raised the water level | calls/called the control room |
        releases/released the hand brake | feeds/fed the ducks;
    the sprinkler starts/started | lights/lit a candle under the sensor | breaks/broke the glass bulb |
        opens/opened the main valve | sweeps/swept the stairs;
    the vote fails/failed | hands/handed in a blank ballot | leaves/left the room early | votes/voted
        against the plan | brings/brought cake for everybody""")
# a plan; what it is good for; what else comes of it
INTENTIONS = rows("""
    drain/drained the wet field | earn more with the harvest | the frogs lose/lost their pond;
    build/built a second road | get to work faster | the old oak have/had to be cut down;
    move/moved the factory abroad | save money | the town get/got quieter;
    keep/kept the shop open at night | sell more bread | the neighbours sleep/slept badly;
    paint/painted the house white | keep the rooms cool | the street look/looked brighter;
    print/printed the long report twice | have a copy at home | the printer run/ran out of ink;
    plant/planted tall trees | enjoy the shade | the neighbour lose/lost the view of the lake;
    train/trained in the garden every morning | win the race | the lawn turn/turned brown;
    close/closed the north entrance | make the building safer | the cafe next to it lose/lost guests;
    change/changed the timetable | let the buses run on time | the school day start/started later;
    sell/sold the old piano | make room for a desk | the evenings become/became silent;
    raise/raised the entrance fee | repair the roof | fewer tourists come/came to the castle""")

# ----------------------------------------------------------------------------------------- date_understanding
HOLIDAYS = {"New Year's Day": (1, 1), "Valentine's Day": (2, 14), "Christmas Eve": (12, 24),
            "Christmas Day": (12, 25), "New Year's Eve": (12, 31), "the 4th of July": (7, 4)}

# ------------------------------------------------------------------------------------------ disambiguation_qa
MEN = """
    uncle brother king monk prince grandfather father nephew duke grandson stepfather godfather""".split()
WOMEN = """
    aunt sister queen nun waitress actress princess grandmother mother niece duchess landlady""".split()
ROLES = """
    doctor teacher baker plumber lawyer painter farmer pilot tailor singer cook nurse driver gardener writer
    judge guard carpenter librarian mechanic dentist student photographer engineer""".split()
# 'they' is one of X and Y: the sentence; which of them; why
VERB_FRAMES = rows("""
    X thanked Y because they had helped with the move | Y | one thanks the person who helped;
    X apologised to Y because they had come too late | X | the person who apologises is the one who did
        wrong;
    X congratulated Y because they had won the first prize | Y | one congratulates the winner;
    X forgave Y because they had said sorry at once | Y | one forgives the person who says sorry;
    X asked Y for help because they could not lift the box alone | X | the person who asks for help is the
        one in need;
    X paid Y because they had repaired the roof so well | Y | one pays the person who did the work;
    X hired Y because they needed somebody for the evenings | X | the person who hires is the one in need of
        somebody;
    X dismissed Y because they had stolen money | Y | one dismisses the person who did wrong;
    X visited Y in hospital because they had just had an operation | Y | the patient is the one who had the
        operation;
    X borrowed a pen from Y because they had left their own at home | X | the person who borrows is the one
        without a pen;
    X lent Y an umbrella because they had come without one | Y | one lends to the person who has none;
    X confessed to Y that they had lost the key | X | one confesses one's own deed;
    X praised Y because they had worked so carefully | Y | one praises the person who did good work;
    X asked Y the way because they were new in town | X | the person who asks the way is the one who does
        not know it;
    X begged Y for forgiveness because they had told a lie | X | the person who begs for forgiveness did the
        wrong;
    X comforted Y because they had failed the exam | Y | one comforts the person who had bad luck;
    X repaid Y because they had borrowed some money | X | the person who repays is the one who borrowed;
    X promised Y that they would bring the book back soon | X | one promises one's own deeds""")
# the same with a possessive pronoun that could be anybody's
OPEN_FRAMES = items("""
    X met Y at their office; X talked with Y about their childhood; X had dinner with Y in their kitchen; X
    waited with Y for their taxi; X played chess with Y on their boat; X sat next to Y in their garden; X
    left the theatre with Y and their cousin; X ran into Y in front of their house; X walked with Y to their
    car; X looked with Y at a photo of their old school""")
LEADS = items("""
    After a long day on which nothing had gone to plan; Although the shops had already closed; On the
    coldest evening of the winter; Some weeks after the new bridge had been opened; While everybody else was
    watching the parade; Just before the storm reached the coast""")
ASIDES = items("""
    whom few people in the village knew; who lived next to the church; who wore a grey coat; who had a dog;
    whose name was on the list; who came with two heavy suitcases""")

# ------------------------------------------------------------------------------------------- formal_fallacies
GROUPS = items("""
    member of the chess club; guest of the hotel; student of the college; worker in the factory; singer in
    the choir; reader of the journal; citizen of the town; passenger on the ship""")
PROPERTIES = items("""
    a swimmer; a cat owner; a vegetarian; an early riser; a cyclist; a gardener; a jazz fan; a coffee
    drinker; a chess player; a stamp collector; a good cook; a night worker; a speaker of Latin; a dancer; a
    painter; an only child""")

# ------------------------------------------------------------------------------------------------- hyperbaton
# in the usual order
ADJECTIVES = {
    "opinion": "lovely ugly nice silly strange wonderful horrible beautiful terrible good".split(),
    "size": "big small tiny huge enormous little large medium-size massive short".split(),
    "age": "old new ancient brand-new modern young archaic old-fashioned".split(),
    "shape": "round square circular triangular spherical rectangular oval pyramidal".split(),
    "colour": "red blue green black white yellow brown purple grey pink".split(),
    "origin": "Turkish Mexican Brazilian Indian Russian German Thai Polish Greek Korean".split(),
    "material": "wooden leather steel plastic paper cotton rubber glass wool iron".split(),
    "purpose": "hiking walking driving exercise smoking eating snorkeling typing whittling drinking".split(),
}
NOUNS = """
    chair knife ship ball cat shoe bag box computer car motorcycle sweater lamp cup book""".split()

# ---------------------------------------------------------------------------------------- logical_deduction_*
# the story; the things; before; after; (first, last, one of both); (k-th from the start, k-th from the end)
ORDER_THEMES = [
    ("On a branch sit {n} birds in a row from left to right:",
     [f"the {bird}" for bird in "robin crow owl falcon hawk raven quail jay hummingbird cardinal".split()],
     "is to the left of", "is to the right of",
     ("is the leftmost", "is the rightmost", "sits at one of the two ends"),
     ("is the {} from the left", "is the {} from the right")),
    ("On a shelf stand {n} books in a row from left to right:",
     [f"the {book} book" for book in "red blue green white black yellow orange purple grey brown".split()],
     "is to the left of", "is to the right of",
     ("is the leftmost", "is the rightmost", "stands at one of the two ends"),
     ("is the {} from the left", "is the {} from the right")),
    ("In a golf tournament there were {n} golfers, and no two finished level:",
     "Amy Ana Dan Eli Eve Joe Mel Mya Rob Ada".split(), "finished ahead of", "finished behind",
     ("finished first", "finished last", "finished first or last"), ("finished {}", "finished {}-to-last")),
    ("A museum shows {n} old vehicles, all of different age:",
     [f"the {car}" for car in "bus truck tractor limousine taxi minivan sedan motorcycle tram jeep".split()],
     "is newer than", "is older than",
     ("is the newest", "is the oldest", "is either the newest or the oldest"),
     ("is the {}-newest", "is the {}-oldest")),
    ("A market stall sells {n} kinds of fruit, each at another price:",
     [f"the {fruit}" for fruit in "apple pear mango peach plum kiwi orange melon papaya quince".split()],
     "costs less than", "costs more than",
     ("is the cheapest", "is the most expensive", "is either the cheapest or the most expensive"),
     ("is the {}-cheapest", "is the {}-most expensive")),
]

# --------------------------------------------------------------------------------------- movie_recommendation
# genre -> {title: year}
FILMS = {genre: dict(film.rsplit(" ", 1) for film in items(films)) for genre, films in {
    "animated family film": """
        Bambi 1942; Pinocchio 1940; The Little Mermaid 1989; The Land Before Time 1988; Aladdin 1992; The Lion
        King 1994; Toy Story 1995; Shrek 2001; Finding Nemo 2003; Ratatouille 2007; Frozen 2013;
        Moana 2016""",
    "space science fiction film": """
        2001: A Space Odyssey 1968; The Empire Strikes Back 1980; Return of the Jedi 1983; Star Trek: First
        Contact 1996; The Fifth Element 1997; Serenity 2005; Star Trek 2009; Gravity 2013; Interstellar 2014;
        The Martian 2015""",
    "superhero film": """
        Superman 1978; Superman II 1980; Batman 1989; Batman Returns 1992; Batman Forever 1995; X-Men 2000;
        Spider-Man 2002; Iron Man 2008; The Avengers 2012; Wonder Woman 2017; Black Panther 2018""",
    "western": """
        High Noon 1952; Rio Bravo 1959; The Magnificent Seven 1960; A Fistful of Dollars 1964; Pale Rider
        1985; Silverado 1985; Unforgiven 1992; Tombstone 1993; Wyatt Earp 1994; Open Range 2003; Appaloosa
        2008; The Hateful Eight 2015""",
    "horror film": """
        The Exorcist 1973; Halloween 1978; The Shining 1980; Friday the 13th 1980; A Nightmare on Elm Street
        1984; Scream 1996; The Blair Witch Project 1999; The Ring 2002; Saw 2004; Paranormal Activity 2007;
        The Conjuring 2013; Hereditary 2018""",
    "romantic comedy": """
        Roman Holiday 1953; Moonstruck 1987; When Harry Met Sally 1989; Pretty Woman 1990; Notting Hill
        1999; Sleepless in Seattle 1993; You've Got Mail 1998; Bridget Jones's Diary 2001; Love Actually
        2003; How to Lose a Guy in 10 Days 2003; Crazy Rich Asians 2018""",
    "war film": """
        The Longest Day 1962; A Bridge Too Far 1977; Platoon 1986; Full Metal Jacket 1987; Hamburger Hill
        1987; Saving Private Ryan 1998; The Thin Red Line 1998; Black Hawk Down 2001; Letters from Iwo Jima
        2006; Hacksaw Ridge 2016; Dunkirk 2017""",
    "gangster film": """
        The Godfather 1972; Scarface 1983; The Untouchables 1987; Goodfellas 1990; Casino 1995; Donnie Brasco
        1997; Carlito's Way 1993; American Gangster 2007; Public Enemies 2009; Black Mass 2015; The Irishman
        2019""",
}.items()}

# -------------------------------------------------------------------------------------------- object_counting
# category (one/many) -> its members (one/many)
CATEGORIES = {
    "fruit/fruits": pairs("""
        apple/apples banana/bananas orange/oranges peach/peaches plum/plums grape/grapes
        strawberry/strawberries raspberry/raspberries nectarine/nectarines pear/pears"""),
    "vegetable/vegetables": pairs("""
        carrot/carrots onion/onions potato/potatoes cabbage/cabbages cauliflower/cauliflowers turnip/turnips
        radish/radishes leek/leeks beet/beets parsnip/parsnips"""),
    "animal/animals": pairs("""
        cat/cats dog/dogs cow/cows goat/goats rabbit/rabbits snake/snakes donkey/donkeys frog/frogs duck/ducks
        mouse/mice"""),
    "musical instrument/musical instruments": pairs("""
        piano/pianos trumpet/trumpets violin/violins flute/flutes drum/drums clarinet/clarinets
        trombone/trombones accordion/accordions guitar/guitars harp/harps"""),
    "piece of furniture/pieces of furniture": pairs("""
        table/tables chair/chairs bed/beds couch/couches wardrobe/wardrobes bookcase/bookcases
        armchair/armchairs desk/desks stool/stools dresser/dressers"""),
}

# --------------------------------------------------------------------------------- penguins, coloured objects
PENGUINS = "Louis Bernard Vincent Gwen James Donna Felix Harriet Ken Tara".split()
GIRAFFES = "Jody Gladys Marian Donald Amelia Otis Walter Pia Rufus Selma".split()
COLOURS = "red blue green yellow black white pink purple grey orange brown turquoise".split()
THINGS = pairs("""
    mug/mugs keychain/keychains pencil/pencils ball/balls cup/cups notebook/notebooks plate/plates
    bracelet/bracelets envelope/envelopes stamp/stamps teddy/teddies puzzle/puzzles whistle/whistles
    candle/candles comb/combs""")

# ------------------------------------------------------------------------------------------------- ruin_names
# films and musicians, each with one edit that turns a word into another word: there are only this many jokes
RUINED_NAMES = dict(rows("""
    star wars | star warts; the lion king | the loin king; finding nemo | finding memo; jurassic park |
    jurassic pork; toy story | soy story; fight club | fight cub; pretty woman | petty woman; home alone |
    home clone; die hard | pie hard; top gun | top bun; back to the future | back to the suture; dances with
    wolves | dunces with wolves; saving private ryan | shaving private ryan; black panther | slack panther;
    iron man | iron pan; spider man | cider man; the hobbit | the rabbit; harry potter | hairy potter; lord
    of the rings | lard of the rings; mean girls | bean girls; pulp fiction | pulp friction; kill bill |
    kill dill; the silence of the lambs | the silence of the lamps; notting hill | nothing hill; the sound
    of music | the hound of music; rain man | train man; king kong | king gong; the jungle book | the jungle
    cook; beauty and the beast | beauty and the yeast; the little mermaid | the little barmaid; sleeping
    beauty | sweeping beauty; snow white | slow white; peter pan | pewter pan; the dark knight | the bark
    knight; gone with the wind | gone with the wink; some like it hot | some like it hat; twelve angry men |
    twelve hungry men; the green mile | the green smile; a beautiful mind | a beautiful mink; cast away |
    cat away; reservoir dogs | reservoir hogs; the big lebowski | the pig lebowski; groundhog day |
    groundhog hay; mission impossible | fission impossible; the shining | the whining; full metal jacket |
    full petal jacket; lost in space | lost in spice; a star is born | a star is corn; ice age | rice age;
    kung fu panda | kung fu pasta; chicken run | chicken bun; the wizard of oz | the lizard of oz; meet the
    parents | meet the parrots; raging bull | raging bulb; easy rider | easy cider; the deer hunter | the
    beer hunter; good will hunting | good pill hunting; dead poets society | dead pets society; scent of a
    woman | cent of a woman; school of rock | school of sock; the hunger games | the hanger games; pink
    floyd | pink flood; the rolling stones | the rolling scones; led zeppelin | bed zeppelin; the beach boys
    | the peach boys; guns n roses | buns n roses; deep purple | jeep purple; iron maiden | irony maiden;
    the doors | the odors; johnny cash | johnny mash; bob marley | bob barley; cat stevens | bat stevens;
    the police | the polite; green day | greek day; red hot chili peppers | red hat chili peppers; pearl jam
    | pearl ham; foo fighters | food fighters; daft punk | draft punk; the black keys | the black knees;
    talking heads | talking beads"""))

# ------------------------------------------------------------------------ salient_translation_error_detection
ERRORS = {
    "Named entities": "the name of a person or a place is changed",
    "Facts": "a plain fact, such as a profession, is changed",
    "Numerical values": "a number is changed",
    "Modifiers or adjectives": "a describing word is replaced by an unrelated one",
    "Negation or antonyms": "a statement is negated, or a describing word is turned into its opposite",
    "Dropped content": "a part of the sentence is left out",
}
CITIES = pairs("""
    Wien/Vienna München/Munich Köln/Cologne Genf/Geneva Prag/Prague Rom/Rome Zürich/Zurich
    Nürnberg/Nuremberg Hamburg/Hamburg Bremen/Bremen Dresden/Dresden Leipzig/Leipzig Bonn/Bonn Basel/Basel
    Graz/Graz Kiel/Kiel Ulm/Ulm Salzburg/Salzburg Warschau/Warsaw Lissabon/Lisbon""")
JOBS = rows("""
    Arzt | Ärztin | doctor; Lehrer | Lehrerin | teacher; Bäcker | Bäckerin | baker; Maler | Malerin |
    painter; Richter | Richterin | judge; Pilot | Pilotin | pilot; Gärtner | Gärtnerin | gardener; Tischler
    | Tischlerin | carpenter; Dichter | Dichterin | poet; Schneider | Schneiderin | tailor; Apotheker |
    Apothekerin | pharmacist; Förster | Försterin | forester""")  # he, she, English
GERMAN_NUMBERS = pairs("""
    zwei/two drei/three vier/four fünf/five sechs/six sieben/seven acht/eight neun/nine zehn/ten elf/eleven
    zwölf/twelve""")
# pairs of opposites; before a plural noun every German adjective ends in -e, whatever the noun's gender
OPPOSITES = rows("""
    alte/old | neue/new; große/large | kleine/small; teure/expensive | billige/cheap; schwere/heavy |
    leichte/light; lange/long | kurze/short; saubere/clean | schmutzige/dirty; breite/wide | schmale/narrow;
    leere/empty | volle/full; dicke/thick | dünne/thin; helle/bright | dunkle/dark""")
PLAIN_ADJECTIVES = pairs("""
    rote/red blaue/blue grüne/green gelbe/yellow runde/round gestreifte/striped hölzerne/wooden
    bemalte/painted eiserne/iron""")
THINGS_MADE = pairs("""
    Kisten/boxes Tische/tables Bänke/benches Schränke/cupboards Türen/doors Boote/boats Körbe/baskets
    Rohre/pipes Bretter/boards Regale/shelves""")
GERMAN_VERBS = rows("""
    kaufte | bought | did not buy; verkaufte | sold | did not sell; reparierte | repaired | did not repair;
    fand | found | did not find; zeichnete | drew | did not draw; bestellte | ordered | did not order;
    verlor | lost | did not lose; baute | built | did not build""")
PHRASES = rows("""
    nach der Arbeit | after work; am frühen Morgen | early in the morning; trotz des Regens | in spite of
    the rain; mit einem Freund | with a friend; zum ersten Mal | for the first time; ohne Hilfe | without
    help; vor dem Abendessen | before dinner; in aller Eile | in a great hurry""")
REASONS = rows("""
    weil das Wetter schlecht war | because the weather was bad; weil der Zug Verspätung hatte | because the
    train was late; obwohl niemand zu Hause war | although nobody was at home; obwohl es schon spät war |
    although it was already late; weil Besuch kommen sollte | because visitors were expected; obwohl das
    Geld knapp war | although money was short""")

# ----------------------------------------------------------------------------------------------------- snarks
GOOD_THINGS = items("""
    a free upgrade to first class; a sunny weekend at the lake; a surprise visit from old friends; a pay
    rise in spring; a good night's sleep; a warm meal after a long hike; an extra week of holiday; a
    neighbour who shares her cherries; a train that arrives early; a dentist who finds nothing; a hug from
    the grandchildren; a standing ovation; a full scholarship; a room with a view of the sea; a present that
    fits; a quick and complete recovery; a refund without any questions; a seat in the front row; a lost
    wallet that comes back full; a clean and quiet hotel""")
BAD_THINGS = items("""
    a flat tyre on the way to a wedding; a cold shower in January; a toothache on a Sunday; a delayed flight
    at midnight; a burst pipe in the bedroom; a parking fine on a birthday; a mosquito in the tent all
    night; a computer crash before the deadline; a queue of three hours in the rain; a neighbour who drills
    at dawn; a soup full of hair; a suitcase lost by the airline; an exam on the first day of the holidays;
    a phone that dies during the emergency call; a bill for somebody else's mistake; a leaking roof in a
    storm; a stain on the only clean shirt; a broken lift on the way to the tenth floor; a wasp in the
    lemonade; a traffic jam without end""")
PRAISE = items("""
    Yes, because {} is exactly what everyone dreams of; {}: my day could not get any better; How lovely, {};
    Thank you, {} is just what I needed; I have always wished for {}; Wonderful, {}, what a treat; There is
    nothing like {} to lift the mood; {}, now that is what I call luck; Who would not love {}; I could not
    be happier about {}; If only every day brought {}; {} makes life worth living""")
COMPLAINTS = items("""
    How terrible, {}; Poor me, {}, what have I done to deserve this; {}: my whole week is ruined; {} is
    really the last thing anyone needs; I am so sorry that you had to go through {}; Nobody should have to
    suffer {}; What a disaster, {}; I do not know how I will ever get over {}""")

# --------------------------------------------------------------------------------------- sports_understanding
# sport -> athletes, actions that only this sport has, its competitions
SPORTS = {sport: [items(part) for part in parts] for sport, parts in {
    "basketball": ("""
        Michael Jordan; LeBron James; Kobe Bryant; Stephen Curry; Larry Bird; Magic Johnson; Shaquille O'Neal;
        Tim Duncan; Kevin Durant; Dirk Nowitzki; Scottie Pippen; Giannis Antetokounmpo""", """
        made a layup; sank a free throw; hit a three-pointer; finished an alley-oop; dunked the ball; hit a
        jump shot; was called for a double dribble; won the tip-off""", """
        the NBA Finals; the NBA playoffs; the NBA All-Star Game"""),
    "football (soccer)": ("""
        Lionel Messi; Cristiano Ronaldo; Pele; Diego Maradona; Zinedine Zidane; Neymar; Kylian Mbappe; David
        Beckham; Wayne Rooney; Thierry Henry; Andres Iniesta; Robert Lewandowski""", """
        scored from a corner kick; took a penalty kick; was shown a yellow card; headed the ball into the
        net; curled a free kick over the wall; scored with a bicycle kick; scored with a diving header; was
        sent off with a red card""", """
        the FIFA World Cup; the UEFA Champions League final; the FA Cup"""),
    "American football": ("""
        Tom Brady; Peyton Manning; Joe Montana; Jerry Rice; Emmitt Smith; Aaron Rodgers; Patrick Mahomes;
        Walter Payton; Rob Gronkowski; Dan Marino; Randy Moss; Marshawn Lynch""", """
        scored a touchdown; gained a first down; converted on fourth down; fumbled at the goal line; scored a
        two-point conversion; ran into the end zone; recovered an onside kick; was tackled behind the line of
        scrimmage""", """
        the Super Bowl; the Pro Bowl; the AFC Championship Game"""),
    "ice hockey": ("""
        Wayne Gretzky; Sidney Crosby; Alexander Ovechkin; Mario Lemieux; Gordie Howe; Bobby Orr; Jaromir Jagr;
        Mark Messier; Connor McDavid; Patrick Kane; Steve Yzerman; Brett Hull""", """
        scored on the power play; was sent to the penalty box; took a slap shot; deflected the puck; scored a
        short-handed goal; iced the puck; fired a wrist shot; was called for high-sticking""", """
        the Stanley Cup Final; the NHL Winter Classic; the NHL All-Star Game"""),
    "baseball": ("""
        Babe Ruth; Derek Jeter; Barry Bonds; Willie Mays; Hank Aaron; Ted Williams; Mickey Mantle; Mike Trout;
        Alex Rodriguez; Joe DiMaggio; Aaron Judge; Cal Ripken Jr.""", """
        hit a home run; stole second base; hit a grand slam; grounded into a double play; hit a sacrifice fly;
        was walked with the bases loaded; hit a single to left field; struck out in the ninth inning""", """
        the World Series; the MLB All-Star Game; the American League Championship Series"""),
}.items()}

# ----------------------------------------------------------------------------------------- temporal_sequences
ACTIVITIES = items("""
    reading at the library; painting in the studio; buying shoes at the mall; working at the office; fixing
    a bicycle in the garage; having lunch at the cafe; swimming in the pool; walking the dog in the park;
    waiting at the station; playing tennis at the club; cooking at home; taking photos near the tower""")
PLACES = items("""
    zoo; museum; castle; bakery; theatre; harbour; market; gym; art gallery; botanical garden""")

# -------------------------------------------------------------------------------- tracking_shuffled_objects_*
# what somebody has at first; the swap; the question; the things
SWAP_THEMES = [
    ("{} has the {}", "{} and {} swap their balls", "What does {} have",
     [f"{colour} ball" for colour in COLOURS]),
    ("{} holds the {}", "{} and {} trade their gifts", "What does {} hold",
     "watch scarf candle teapot mirror camera lantern umbrella kite puzzle".split()),
    ("{} is dancing with {}", "{} and {} switch partners", "With whom is {} dancing",
     "Ophelia Rodrigo Jamie Sam Karl Izzi Quentin Wanda Yvonne Zoltan".split()),
    ("{} plays as {}", "{} and {} trade positions", "As what does {} play",
     ["goalkeeper", "striker", "sweeper", "centre back", "left winger", "right winger", "left midfielder",
      "right midfielder", "playmaker"]),
    ("{} gets {}", "{} and {} swap books", "Which book does {} have",
     ["Ulysses", "Frankenstein", "Dracula", "Hamlet", "Moby Dick", "Lolita", "Ivanhoe", "Walden"]),
]
