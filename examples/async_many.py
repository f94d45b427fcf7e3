"""Many questions side by side, never more than a few at a time: python async_many.py"""

import asyncio

import llamaroute as lr

QUESTIONS = ["What is a llama?", "Where is Cusco?", "What is 2 + 2?", "Name a colour.", "What do bees make?"]
AT_ONCE = 3


async def main() -> None:
    limit = asyncio.Semaphore(AT_ONCE)

    async def ask(client: lr.AsyncClient, question: str) -> lr.ChatResponse[None]:
        async with limit:
            return await client.chat(question, system="Answer in one short sentence.", max_tokens=30)

    async with lr.AsyncClient() as client:
        async with asyncio.TaskGroup() as group:  # when one fails, the others are cancelled and their sockets closed
            tasks = [group.create_task(ask(client, question)) for question in QUESTIONS]
        for question, task in zip(QUESTIONS, tasks, strict=True):
            print(f"{question}\n    {task.result().text.strip()}")
        used = client.usage()
        print(f"{used.calls} answers, {used.input_tokens} + {used.output_tokens} tokens")


asyncio.run(main())
