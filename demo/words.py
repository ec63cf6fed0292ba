"""The words that the conversations are filled with: real ones for both splits, invented ones to train on.

Every list is cut by a hash: four words of five are for training, the fifth is only ever asked about in the
held-out evaluation. In training half of the words are invented on the spot, so that the model learns to copy
letters and cannot lean on having seen a word before.
"""

# ruff: noqa: SIM905 - a list of plain words reads better without the quotes

import zlib
from random import Random

FIRST_NAMES = """
Ada Adam Agnes Alan Albert Alice Amira Amy Ana Anders Andrea Anna Anton Aria Arthur Astrid Ava Bella Ben Bianca
Boris Bruno Carl Carla Carmen Cecil Clara Claire Conrad Cora Dana Daniel Daria David Diana Diego Dora Dylan
Edgar Edith Elena Elias Elisa Ella Emil Emma Enzo Erik Eva Felix Fiona Frank Frida Gabriel Gina Grace Greta
Gustav Hana Hannah Harry Hassan Hector Heidi Helen Henry Hugo Ida Igor Ines Ingrid Irene Iris Isaac Ivan Ivy
Jack James Jane Jasper Jenny Joan John Jonas Jorge Julia Julian Karin Karl Kate Kenji Kim Lara Laura Lena Leo
Lewis Liam Lina Linus Lisa Lucas Lucy Luis Lydia Magnus Marco Maria Marie Mark Martha Mary Maya Mia Miguel Milo
Mina Mira Mona Nadia Nathan Nina Noah Nora Olga Oliver Omar Oscar Otto Paula Pedro Peter Petra Philip Priya
Quentin Rachel Ralph Rita Robert Rosa Ruby Ruth Sam Samira Sara Sven Sofia Simon Stella Tara Tessa Theo Thomas
Tim Tina Tom Ulla Uma Vera Victor Viola Walter Wanda Will Yara Yusuf Zara Zoe
""".split()

LAST_NAMES = """
Abbott Adler Baker Barnes Bauer Becker Bell Berg Bishop Blake Brandt Brooks Brown Carter Castro Chen Clark Cole
Cooper Costa Cruz Dalton Diaz Dixon Duval Eklund Ellis Evans Farmer Ferrari Fischer Flores Ford Foster Fox
Garcia Gibson Grant Gray Green Haas Hall Hansen Harper Hill Holm Hunter Ivanov Jansen Jensen Jones Keller Kelly
King Klein Koch Kumar Lambert Lang Larsen Lee Lopez Mason Meyer Miller Moreau Morris Nakamura Nelson Novak Olsen
Ortiz Owens Park Parker Perez Petrov Pohl Porter Quinn Ramos Reed Reyes Rossi Ryan Santos Sato Schmidt Shaw
Silva Singh Smith Stone Suzuki Swan Tanaka Taylor Turner Vance Vogel Wagner Walker Ward Weber West White Wolf
Wood Young Zhang Ziegler
""".split()

CITIES = """
Aachen Accra Alicante Amsterdam Ankara Antwerp Athens Atlanta Auckland Austin Baghdad Bali Bangkok Barcelona
Basel Belfast Bergen Berlin Bern Bilbao Birmingham Bologna Bombay Bordeaux Boston Bremen Bristol Brussels
Budapest Cairo Calgary Cambridge Cardiff Chicago Cologne Copenhagen Cork Cracow Dakar Dallas Delhi Denver
Detroit Dresden Dubai Dublin Durban Edinburgh Essen Florence Frankfurt Geneva Genoa Ghent Glasgow Granada Graz
Hamburg Hanoi Havana Helsinki Houston Istanbul Jakarta Kassel Kiel Kyoto Lagos Leeds Leipzig Lima Linz Lisbon
Liverpool London Lucerne Lyon Madrid Malaga Manila Marseille Melbourne Miami Milan Montreal Moscow Mumbai Munich
Nairobi Nantes Naples Nice Nuremberg Oakland Osaka Oslo Ottawa Oxford Palermo Paris Perth Pisa Porto Prague
Quito Reykjavik Riga Rome Rotterdam Salzburg Santiago Seattle Seoul Seville Shanghai Singapore Sofia Split
Stockholm Strasbourg Sydney Tallinn Tampa Tokyo Toledo Toronto Toulouse Trieste Tunis Turin Utrecht Valencia
Venice Verona Vienna Vilnius Warsaw York Zagreb Zurich
""".split()

PLACE_STARTS = "New San Port North South East West Saint Lake Fort Little Old".split()

NOUNS = """
acorn actor airport album alarm anchor angle apple apron arrow artist atlas autumn badge bagel baker balance
balcony ballet balloon bamboo banana banner basket battery beach beacon beard beaver bicycle biscuit blanket
blossom boat bonus border bottle branch bread breeze brick bridge brush bubble bucket budget button cabin cable
cactus calendar camera candle canvas canyon captain carbon career carpet carrot castle cellar cement chain chair
chalk channel cherry chess circle circus cliff clock cloud clover coach coast coffee comet compass concert
contract cookie copper coral corner cotton couch coupon course cousin cradle crater crayon cricket crystal
curtain cushion customs daisy deadline desert dessert detail diamond dinner discount doctor dolphin donkey
dragon drawer dream drum eagle earring editor elbow elevator engine episode errand evening event expense fabric
factory falcon farmer feather fence ferry festival fiddle finger flag flame flight flower flute forecast forest
fork fossil fountain freight friend furnace galaxy garage garden garlic gate ghost ginger giraffe glacier glove
goat grain grape gravel guitar hammer harbor harvest hazard hedge helmet heron holiday honey horizon hotel
humidity hunter iceberg inbox ink insect invoice island ivory jacket jaguar jelly jewel journal journey judge
jungle kettle keyboard kitchen kitten ladder lagoon lamp lantern laptop laundry lawyer leaf lecture lemon letter
library license lizard locker lotion lottery luggage lunch machine magnet mailbox mango map maple marble market
mattress meadow melody menu mirror mitten monkey morning motor mountain museum mushroom napkin needle nephew
nest notebook ocean office olive onion opera orange orchard otter oven oyster package paddle painter palace
panda paper parade parcel parrot passport password pasture patient payment peach peanut pebble pencil pepper
permit piano picnic pigeon pillow pilot pirate planet plaster playlist pocket poem pollen portrait postcard
potato powder printer prize profile profit project pumpkin puppet puzzle quarry quilt rabbit radar radio railway
rainbow ranking receipt recipe record refund rent report ribbon ring river robot rocket roof room rope salary
salmon sandal saucer scarf schedule score screen season seat shadow shark shelf shield signal silver sister
sketch ski sleeve snail soccer song spider spoon sponge squirrel stamp station statue status stock storm story
stove student subway sugar summer sunset supper sweater table tailor target tariff task taxi teacher temple
tennis tent theater thread throat thunder ticket tiger timer tiramisu toast tomato tower tractor traffic train
treasure tribe trophy tulip tunnel turtle umbrella uncle valley vault velvet village violin visa visitor volcano
voucher wagon wallet walnut warning water wedding whale wheat whistle willow window winter wizard workshop
yogurt zebra zipper
""".split()

VERBS = """
adopt announce archive arrange assign attach bake block book borrow bring build buy calculate cancel charge
clean close collect compare confirm cook copy create deliver describe draft draw edit export file fix forward
gather generate hide hire import install invite lend load lock mail make measure mix move offer open organize
pack paint park pay pick plan plant play post prepare print produce publish raise register release remove rename
rent repair replace report request reserve rotate save schedule scan select sell send share ship show sort start
stop store submit suggest teach test trade transfer translate unlock update upload view wash watch wrap write
""".split()

ADJECTIVES = """
amber ancient big black blue bold brave bright brown calm cheap clean clear cold cool cozy daily dark deep dry
early easy empty express fancy fast final fine firm flat fresh full gentle gold golden grand gray green happy
hard heavy hidden high hot huge icy kind large late lazy light little local long loud low lucky medium mild mini
modern monthly narrow new noisy old open orange pale pink plain polite premium pretty proud public pure purple
quick quiet rapid rare red rich ripe rough round royal sharp short shy silent simple slim slow small smart
smooth soft solid sour spicy standard steep strong sunny sweet tall tender thick thin tiny urgent vast violet
warm weekly wet white wide wild wise yellow young
""".split()

# Words that have a piece of their own in the vocabulary: in training they are spelled and copied too.
COMMON = """
hello world help please name city time price weather country number message text word words letters sound day
week year music order list tool model capital title color style mode level good morning thanks small topic
product person place location temperature delivery parking result status answer sentence
""".split()

FILLERS = "the a is in on my your and you we it this that are was here not so for to with of".split()

# Small words that are pieces of the vocabulary: in "amber" and "target" the model must still see the letters of "am"
# and of "get".
PIECES = """
a age am an and ant are area as ask at bye by call can case city come count cup day did do does end find first for
from get give good has have help her here his hour how in into is it item last legs like limit list lot made me
mode music my name need no not note of on one or order paid place plus price rate read road rooms same say see sides
sing size so sold sort sound sum take talk tell text that the them there thing think this time title to tool town
turn type unit up upper us user was we week well were what who with won word works would year you your
""".split()
CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"


def given():
    """Every word that a user may give: none of them is a piece of the vocabulary."""
    return {*map(str.lower, FIRST_NAMES + LAST_NAMES + CITIES + PLACE_STARTS + NOUNS + VERBS + ADJECTIVES)}


def held_out(text, part=5):
    """Whether this text belongs to the held-out split: true for one in `part`, always the same ones."""
    return zlib.crc32(text.encode()) % part == 0


class Words:
    """Draws words of one split: "train" mixes real and invented ones, "heldout" draws unseen real ones.

    The third split, "letters", draws letters at random: the vocabulary is trained on it, so that it learns
    the phrases around the words but no part of a word, and every such word falls to its letters.
    """

    def __init__(self, random: Random, split: str):
        if split not in ("train", "heldout", "letters"):
            raise ValueError(f"split must be 'train', 'heldout' or 'letters', not {split!r}")
        self.random, self.split = random, split

    def allowed(self, text, part=5):
        """Whether a combination (two numbers, a question) may be asked in this split."""
        return self.split == "letters" or held_out(text, part) == (self.split == "heldout")

    def draw(self, words):
        """One of `words` that belongs to this split, or an invented one."""
        if self.split == "letters" or (self.split == "train" and self.random.random() < 0.5):
            return self.invent(words is FIRST_NAMES or words is LAST_NAMES or words is CITIES)
        while True:
            word = self.random.choice(words)
            if self.allowed(word):
                return word

    def invent(self, capital=False):
        """A word that does not exist: syllables mostly, now and then plain letters or around a small word."""
        choice, word = self.random.choice, ""
        if self.split != "letters" and self.random.random() < 0.3:
            before, after = choice([(0, 5), (0, 5), (3, 3), (4, 0)])
            word = self.letters(before) + choice(PIECES) + self.letters(after)
        elif self.split == "letters" or self.random.random() < 0.25:
            word = "".join(choice("abcdefghijklmnopqrstuvwxyz") for _ in range(self.random.randint(3, 9)))
        else:
            for _ in range(self.random.randint(2, 4)):
                word += choice(CONSONANTS) + choice(VOWELS) + choice(["", "", "", *CONSONANTS])
            word = word[: self.random.randint(3, 9)]
        return word.capitalize() if capital else word

    def letters(self, most):
        """Any letters, at least one of them if any are allowed."""
        return "".join(self.random.choice(VOWELS + CONSONANTS) for _ in range(self.random.randint(min(most, 1), most)))

    def noun(self):
        """A thing."""
        return self.draw(NOUNS)

    def verb(self):
        """Something to do."""
        return self.draw(VERBS)

    def adjective(self):
        """What a thing is like."""
        return self.draw(ADJECTIVES)

    def word(self):
        """Any word in lower case."""
        if self.split == "train" and self.random.random() < 0.06:
            return self.random.choice(COMMON)
        return self.draw(self.random.choice([NOUNS, NOUNS, VERBS, ADJECTIVES]))

    def text(self, count):
        """A few words, some of them the small ones that join others."""
        draws = [self.word, self.word, self.word, lambda: self.random.choice(FILLERS)]
        return " ".join(self.random.choice(draws)() for _ in range(count))

    def first_name(self):
        """A name."""
        return self.draw(FIRST_NAMES)

    def name(self):
        """A person: a first name, often with a last name."""
        first = self.first_name()
        return f"{first} {self.draw(LAST_NAMES)}" if self.random.random() < 0.5 else first

    def city(self):
        """A place, now and then of two words."""
        start = self.random.choice(PLACE_STARTS) + " " if self.random.random() < 0.15 else ""
        return start + self.draw(CITIES)

    def different(self, draw, count):
        """`count` different words from `draw`."""
        words = []
        while len(words) < count:
            word = draw()
            if word not in words:
                words.append(word)
        return words
