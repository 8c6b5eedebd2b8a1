"""What the voices say: written for this project, split so that no sentence is in two splits."""

from __future__ import annotations

TEST = """
The baker opens her shop before the birds wake up.
Please put the yellow umbrella beside the door.
I would rather walk home than wait for the late bus.
Five small boats were moving quietly over the bay.
Could you show me how this old machine works?
We never thought the mountain would look so blue.
Tomorrow the museum is free for everyone under twelve.
She whispered a joke, and the whole room laughed.
My uncle grows purple beans and very large onions.
If the music is too loud, just tell me.
Who left these muddy footprints in the hall?
The answer was on page forty, under the picture.
Warm bread and good butter make a fine breakfast.
Oh no, my shoes are full of sand again!
Every evening he feeds a fox at the garden gate.
That film was longer than I had hoped.
You may choose the red one or the green one.
It took us four hours to move the piano.
Above the roof, a pale moon was rising.
Thank you for keeping me company today.
""".strip().splitlines()

DEV = """
The teacher drew a map of the whole valley.
I am afraid the soup has gone cold.
Two owls live in the tower of our church.
How many people were at the meeting this morning?
Push the heavy box over to the window, please.
The wind blew all the papers off my desk.
We bought apples, pears, and a bag of walnuts.
Her voice was soft, but we understood every word.
A good map would have saved us an hour.
Do you remember the smell of the harbour?
No, I have never eaten such a sour plum.
The boy with the drum is my youngest brother.
Let us meet at the corner after lunch.
Our train leaves from platform nine at noon.
What a beautiful view you have from up here!
He forgot his key, so he climbed over the wall.
""".strip().splitlines()

TRAIN = """
Good morning, it is lovely to see you again.
The river is wide, but the water is not deep.
I made a cake with four eggs and too much sugar.
Please open the window, it is warm in here.
My sister plays the violin, and I play the drums.
A grey cat was sleeping on top of the car.
How do you spell the name of your street?
We walked through the forest until it was dark.
The moon is bright enough to read a book.
You should always check the oven before you leave.
Nobody knew where the music was coming from.
Bob and Pam baked a big batch of brown bread.
The farmer moved his sheep to the lower field.
Is there any more tea in that pot?
I saw a whale once, far out on the ocean.
They painted the fence white and the door blue.
Five, six, seven, eight, and we begin again.
The old clock stopped at a quarter past two.
Would you like some honey on your toast?
Our neighbour grows roses, beans, and pumpkins.
It rained all week, so we stayed at home.
Show me the photo of your new puppy.
She ran up the stairs and knocked three times.
The shop on the corner sells paper and pens.
I cannot believe how fast the summer went.
Where did you find such an enormous shell?
The pilot told us about the storm ahead.
Put your wet boots by the fire to dry.
We have a map, a rope, and plenty of food.
My favourite colour used to be orange.
A small boy waved at us from the bridge.
You are right, the other road is much shorter.
The choir will sing in the park on Sunday.
Who wants to go for a swim before dinner?
Her father fixes bicycles in a tiny workshop.
The soup needs salt, pepper, and a little lemon.
Wow, you really climbed all the way up?
He opened the letter slowly and began to smile.
The train was empty, apart from one sleepy man.
We could hear the waves from our bedroom.
I will call you as soon as I arrive.
The judge asked him to repeat the question.
Mum, may I have another piece of melon?
Every Friday the market fills the whole square.
There is a hole in the bottom of this bucket.
The moth flew around and around the lamp.
Do not touch the pan, it is very hot!
They live in a yellow house near the lake.
Please write your name at the top of the page.
The snow was so deep that we lost a shoe.
I dreamed about a bird that could whistle tunes.
Our team won by two points in the last minute.
What would you do with a million stamps?
The doctor told me to drink more water.
A thin line of smoke rose from the chimney.
She keeps her money in an old boot.
The apples on that tree are never sweet.
We are going to need a longer ladder.
Have you seen my glasses anywhere?
The bell rang, and all the children ran outside.
I usually go to bed around half past ten.
His voice is deep, warm, and very calm.
Few people know the way through the marsh.
The blue whale is bigger than any dinosaur.
You look wonderful in that green jumper.
There were flowers on every table in the room.
Let me think about it until tomorrow.
The mouse moved in while we were on holiday.
Fresh paint, do not lean on the wall.
Why is the sky red in the evening?
We found a box of buttons under the floor.
The waiter brought us bread, oil, and olives.
I have never been so happy to see a bus.
Remember to buy milk, flour, and soap.
The tower is almost as old as the town.
My phone fell into the pond last night.
A good friend always tells you the truth.
The wolves were howling somewhere in the hills.
Could we please have the bill?
She wrote a poem about the colour of rain.
Nine out of ten people chose the cheaper one.
The door is open, come in and sit down.
He mows the lawn every second Saturday.
Our boat is slow, but it never leaks.
I hope you feel better by the weekend.
The lamp above the table is too bright.
Some of us would like to leave now.
We share one computer and two chairs.
The fog was so thick we could not see the road.
Oh, I am sorry, I thought you were somebody else.
Grandma knits hats for all the babies in the village.
Turn left at the fountain and go up the hill.
The play was funny, sad, and far too short.
You must be tired after such a long journey.
A spider built its web across the gate.
Whose turn is it to wash the dishes?
The museum shows paintings of ships and storms.
They argued about the best way to boil an egg.
Now watch closely, the coin will vanish.
Thursday would be better for me than Wednesday.
""".strip().splitlines()

SENTENCES = {"train": TRAIN, "dev": DEV, "test": TEST}
